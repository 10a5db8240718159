"""What a model is. The ground floor: every room may import it, and it imports none.

* `gguf_reader.read_gguf`: a GGUF file's header, checked against the file (`GGUFFile`, `TensorInfo`)
* `gguf_writer.encode_header`: the header of a planned file, and where each tensor goes
* `gguf_values`: the typed values of a header's keys
* `ggml.GGMLType`: tensor types and their blocks
* `imatrix`: importance matrices of llama.cpp (GGUF and .dat), read, written, merged, filled and described
* `catalogue`: the members of the family and the context each supports
* `demo.CHECKPOINT`, `demo.QUESTIONS`: a small trained Nemotron 3, and what to ask it
* `errors`: `NemotronError`, the root of every room's errors, and this room's own

The names are imported from their modules: the command line's `--help` passes through here and loads no numpy.
"""
