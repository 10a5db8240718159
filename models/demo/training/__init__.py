"""How the demo checkpoint was made: the little world, its corpus, the tokenizer, the model and its training."""
