"""What an answer may look like: GBNF, regular expressions and JSON schemas become one checked graph."""
