"""What a checkpoint is: its files, its tensors by name, their rows on demand. Nothing in it is executed."""
