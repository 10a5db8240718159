"""A JSON schema becomes a grammar of the texts that satisfy it; what cannot be kept to is refused by its path."""
