"""The one writer of GGUF files: plans in, complete and checked files out, whatever happens in between."""
