"""From a GGUF file to tokens, messages and answers."""
