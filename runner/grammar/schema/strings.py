"""Texts in JSON: by length, pattern and format, all at once where several are asked for."""

from __future__ import annotations

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.automata import encoded, intersection, lengths
from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.ranges import ANY
from nemotron_gguf.runner.grammar.regex import read_regex
from nemotron_gguf.runner.grammar.schema.formats import FORMATS
from nemotron_gguf.runner.grammar.schema.keywords import Flat, refuse
from nemotron_gguf.runner.grammar.schema.text import any_character, written


def strings(builder: Builder, flat: Flat, path: str) -> int:
    """A text with its quotation marks."""
    low, high = int(flat.get("minLength", 0)), flat.get("maxLength")
    high = None if high is None else int(high)
    if high is not None and high < low:
        return builder.never
    expressions = _expressions(flat)
    inside = _matching(builder, expressions, low, high, path) if expressions else None
    if inside is None:
        inside = builder.repeat(any_character(builder), low, high)
    quote = builder.text('"')
    return builder.chain(quote, inside, quote)


def _expressions(flat: Flat) -> list[str]:
    """Patterns, and formats as patterns."""
    found = list(flat.get("patterns", ()))
    found += [f"^(?:{FORMATS[name]})$" for name in flat.get("formats", ())]
    return found


def _matching(builder: Builder, expressions: list[str], low: int, high: int | None, path: str) -> int:
    raw = Builder()
    try:
        roots = [read_regex(expression, raw) for expression in expressions]
        if len(roots) == 1:
            least, most = lengths(raw.nodes, roots[0])
            if least >= low and (high is None or (most is not None and most <= high)):
                return encoded(raw.nodes, roots[0], builder, written)
        if low or high is not None:
            roots.append(raw.repeat(raw.chars(ANY), low, high))
        return intersection(raw.nodes, roots, builder, written)
    except GrammarError as error:
        refuse(f"{path}/pattern", str(error))
