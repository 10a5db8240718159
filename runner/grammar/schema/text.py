"""JSON's own notation: texts with their escapes, white space, literal values."""

from __future__ import annotations

import json
from collections.abc import Iterable

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.ranges import ANY, Ranges, both, has, of_text, without

PLAIN: Ranges = without(ANY, ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)))
"""Characters that stand for themselves."""

_ESCAPES = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_INDENT = 40  # white space behind the end of a line, at most


def written(builder: Builder, ranges: Ranges) -> int:
    """One of these characters inside of a JSON text; control characters without a short escape only if need be."""
    letters = "".join(short for letter, short in _ESCAPES.items() if has(ranges, ord(letter)))
    plain, options = both(ranges, PLAIN), []
    if plain:
        options.append(builder.chars(plain))
    if letters:
        options.append(builder.chain(builder.text("\\"), builder.chars(of_text(letters))))
    if not options:
        rare = [code for code in (*range(1, 0x20), 0x7F) if has(ranges, code)]
        options = [builder.text(f"\\u{code:04x}") for code in rare]
    return builder.choice(*options)


def any_character(builder: Builder) -> int:
    """Any character, in any of its spellings but halves of surrogate pairs."""
    hexadecimal = builder.chars(of_text("0123456789abcdefABCDEF"))
    low = builder.chain(builder.chars(of_text("dD")), builder.chars(of_text("01234567")))
    other = builder.chain(builder.chars(of_text("0123456789abcefABCEF")), hexadecimal)
    unicode = builder.chain(builder.text("u"), builder.choice(low, other), hexadecimal, hexadecimal)
    escape = builder.chain(builder.text("\\"), builder.choice(builder.chars(of_text('"\\/bfnrt')), unicode))
    return builder.choice(builder.chars(PLAIN), escape)


def space(builder: Builder) -> int:
    """White space that may stand between two signs: none, a blank, or a new line with its indentation."""
    indent = builder.repeat(builder.chars(of_text(" \t")), 0, _INDENT)
    return builder.optional(builder.choice(builder.text(" "), builder.chain(builder.text("\n"), indent)))


def literal(value: object) -> str:
    """A value as JSON. Raises GrammarError for one that JSON or UTF-8 cannot say."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        raise GrammarError(f"{text[:60]!a} has half of a surrogate pair, which no text in UTF-8 can have") from None
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"a value that cannot be written: {error}") from None
    return text


def any_other_name(builder: Builder, names: Iterable[str], ranges: Ranges) -> int:
    """Texts of these characters alone that are none of the names."""
    anything = builder.repeat(builder.chars(ranges))

    def behind(rest: list[str], depth: int) -> int:
        """What may follow a beginning that these names have, without it."""
        firsts = dict.fromkeys(name[0] for name in rest if name)
        options = [] if "" in rest else [builder.empty]
        options.append(builder.chain(builder.chars(without(ranges, of_text("".join(firsts)))), anything))
        for letter in firsts:
            if has(ranges, ord(letter)) and depth:
                following = behind([name[1:] for name in rest if name[:1] == letter], depth - 1)
                options.append(builder.chain(builder.text(letter), following))
        return builder.choice(*options)

    return behind(list(names), 100)
