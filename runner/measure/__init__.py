"""What a model makes of a text: it is run over chunks of it, and what comes out is measured."""
