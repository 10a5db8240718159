"""A GGUF file is looked over before libllama sees it, which aborts the whole process on some that are inconsistent.

`models.gguf_reader` says whether the container is sound; here it is asked whether what it holds is a model that can
run. `check.inspect_model` does both. A rule stands for an assertion, a division by zero, a wild pointer or a refusal
of llama.cpp; the tests put the same files to the library.
"""
