"""`nemotron fit`: the best file for a card, a size or bits a weight."""
