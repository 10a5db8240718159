"""What a model is: the family, the file formats, what a model needs, the demo checkpoint.

The ground floor: every room may import it, and it imports none.
"""
