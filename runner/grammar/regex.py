"""Regular expressions, as JSON schemas use them: the part that means the same in every language and needs no memory."""

from __future__ import annotations

import re

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.ranges import ANY, Ranges, both, of_text, ranges_of, without
from nemotron_gguf.runner.grammar.stacks import reads

MAX_PATTERN = 4096  # characters
MAX_DEPTH = 64  # groups in groups
MAX_COUNT = 10_000  # of a repetition

_ASCII: Ranges = ((0x20, 0x7E),)
_DIGITS: Ranges = of_text("0123456789")
_WORD: Ranges = ranges_of([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
_SPACES: Ranges = of_text(" \t\n\r\f\v")
_MORE: Ranges = ((0xC0, 0x24F), (0x4E00, 0x9FFF))  # letters that are neither digits nor spaces in any language
# languages differ in what else is a digit, a word or a space: only what all of them agree on is written
_CLASSES: dict[str, Ranges] = {
    "d": _DIGITS,
    "D": ranges_of([*without(_ASCII, _DIGITS), *_MORE]),
    "w": _WORD,
    "W": without(_ASCII, _WORD),
    "s": _SPACES,
    "S": ranges_of([*without(_ASCII, _SPACES), *_MORE]),
}
_NOT_DOT: Ranges = of_text("\n\r\u2028\u2029\x85")
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_HEX = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4}))")
_COUNT = re.compile(r"\{(\d{1,6})(?:(,)(\d{1,6})?)?\}")
_NAMED = re.compile(r"\(\?P?<[A-Za-z_]\w*>")


def read_regex(pattern: str, builder: Builder) -> int:
    """The node of all texts in which a pattern is found. Raises GrammarError, with the place, for what is not read."""
    if len(pattern) > MAX_PATTERN:
        raise GrammarError(f"it has {len(pattern)} characters, at most {MAX_PATTERN} are read")
    return _Reader(pattern, builder).read()


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text, in time that no pattern makes long."""
    builder = Builder()
    root = read_regex(pattern, builder)
    return reads(builder.nodes, root, map(ord, text))


class _Reader:
    """Reads from the left to the right, once."""

    def __init__(self, text: str, builder: Builder) -> None:
        self.text, self.builder = text, builder
        self.at = self.depth = 0
        self.anything = builder.repeat(builder.chars(ANY))

    def read(self) -> int:
        """The whole expression: each alternative may be bound to the text's beginning and its end."""
        options = [self._anchored()]
        while self._next() == "|":
            self.at += 1
            options.append(self._anchored())
        if self.at < len(self.text):
            raise self._error("a parenthesis is closed that was not opened")
        return self.builder.choice(*options)

    def _anchored(self) -> int:
        begins = self._next() == "^"
        self.at += begins
        inside = self._sequence()
        ends = self._next() == "$"
        self.at += ends
        if self._next() not in ("", "|", ")"):
            raise self._error("$ stands before other characters, behind which nothing can come")
        return self.builder.chain(
            self.builder.empty if begins else self.anything, inside, self.builder.empty if ends else self.anything
        )

    def _alternatives(self) -> int:
        options = [self._sequence()]
        while self._next() == "|":
            self.at += 1
            options.append(self._sequence())
        return self.builder.choice(*options)

    def _sequence(self) -> int:
        parts: list[int] = []
        while self._next() not in ("", "|", ")", "$"):
            parts.append(self._repeated(self._item()))
        if self._next() == "$" and self.depth:
            raise self._error("$ is understood at the end of the whole pattern alone")
        return self.builder.chain(*parts)

    def _item(self) -> int:
        letter = self._next()
        if letter in ("*", "+", "?", "{"):
            raise self._error(f"nothing stands before {letter} that could be repeated")
        if letter == "^":
            raise self._error("^ is understood at the beginning of the whole pattern alone")
        if letter == "(":
            return self._group()
        if letter == "[":
            return self.builder.chars(self._set())
        if letter == ".":
            self.at += 1
            return self.builder.chars(without(ANY, _NOT_DOT))
        return self.builder.chars(self._character())

    def _group(self) -> int:
        named = _NAMED.match(self.text, self.at)
        if self.text.startswith("(?:", self.at):
            self.at += 3
        elif named:
            self.at = named.end()
        elif self.text.startswith("(?", self.at):
            raise self._error("looking ahead or back, and flags, are not understood")
        else:
            self.at += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"groups stand in groups more than {MAX_DEPTH} deep")
        inside = self._alternatives()
        if self._next() != ")":
            raise self._error("a parenthesis is not closed")
        self.at += 1
        self.depth -= 1
        return inside

    def _repeated(self, part: int) -> int:
        letter = self._next()
        counts: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if letter in counts:
            self.at += 1
            low, high = counts[letter]
        elif letter == "{":
            low, high = self._counts()
        else:
            return part
        if self._next() == "?":  # the shortest or the longest: the same texts
            self.at += 1
        if self._next() in ("*", "+", "?", "{"):
            raise self._error("a repetition is repeated; put it in parentheses")
        return self.builder.repeat(part, low, high)

    def _counts(self) -> tuple[int, int | None]:
        found = _COUNT.match(self.text, self.at)
        if not found:
            raise self._error("expected {n}, {n,} or {n,m}; write \\{ for the character")
        low = int(found[1])
        high = low if not found[2] else int(found[3]) if found[3] else None
        if max(low, high or 0) > MAX_COUNT or (high is not None and high < low):
            raise self._error(f"expected rising numbers up to {MAX_COUNT}")
        self.at = found.end()
        return low, high

    def _set(self) -> Ranges:
        self.at += 1
        negated = self._next() == "^"
        self.at += negated
        chosen: Ranges = ()
        careful = False
        while self._next() != "]" or not chosen:
            if self._next() in ("", "]"):
                raise self._error("a set of characters is empty, or not closed")
            careful |= bool(re.match(r"\\[dDwWsS]", self.text[self.at : self.at + 2]))
            chosen = ranges_of([*chosen, *self._range()])
        self.at += 1
        if negated:
            return without(both(ANY, ranges_of([*_ASCII, *_MORE])) if careful else ANY, chosen)
        return chosen

    def _range(self) -> Ranges:
        low = self._character(inside=True)
        if self._next() != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return low
        self.at += 1
        high = self._character(inside=True)
        if len(low) + len(high) != 2 or low[0][0] != low[0][1] or high[0][0] != high[0][1] or low > high:
            raise self._error("a range of characters needs two of them, the lower first")
        return ((low[0][0], high[0][0]),)

    def _character(self, *, inside: bool = False) -> Ranges:
        letter = self._next()
        if not letter:
            raise self._error("it ends where a character is expected")
        if letter != "\\":
            self.at += 1
            return of_text(letter)
        found = _HEX.match(self.text, self.at)
        if found:
            self.at = found.end()
            code = int(found[1] or found[2], 16)
            return ((code, code),)
        letter = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in _CONTROLS:
            return of_text(_CONTROLS[letter])
        if not letter or letter.isalnum() or (inside and letter == "b"):
            self.at -= 2
            raise self._error(f"\\{letter} is not understood")
        return of_text(letter)

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _error(self, what: str) -> GrammarError:
        here = self.text[self.at : self.at + 20]
        return GrammarError(f"{what} (at character {self.at}" + (f": {here!r})" if here else ", its end)"))
