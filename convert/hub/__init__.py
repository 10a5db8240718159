"""The Hugging Face Hub: repositories looked up, read by ranges, fetched into the cache; ready GGUF files chosen."""
