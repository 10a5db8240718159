"""Widths of a model changed to multiples of a block: padded with zeros, or trimmed of neurons that hardly ever fire."""
