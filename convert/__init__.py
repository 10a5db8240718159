"""From a checkpoint to named tensors and GGUF metadata, and the one writer of GGUF files."""
