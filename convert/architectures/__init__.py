"""One file a family: the metadata it writes and what each GGUF tensor is made of."""
