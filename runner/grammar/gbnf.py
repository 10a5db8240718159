"""GBNF, llama.cpp's notation of grammars, is read: rules of texts, sets of characters, groups and repetitions."""

from __future__ import annotations

import re
from collections.abc import Callable

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.ranges import ANY, Ranges, ranges_of, without

MAX_TEXT = 1 << 18  # characters
MAX_DEPTH = 64  # groups in groups
MAX_COUNT = 100_000  # of a repetition

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_HEX = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8}))")
_LETTERS = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^"}


def read_gbnf(text: str, builder: Builder) -> int:
    """The node of the rule `root`. Raises GrammarError, with the line, for a text that is no grammar."""
    if len(text) > MAX_TEXT:
        raise GrammarError(f"the grammar has {len(text)} characters, at most {MAX_TEXT} are read; make it shorter")
    return _Reader(text, builder).read()


class _Reader:
    """Reads from the left to the right, once."""

    def __init__(self, text: str, builder: Builder) -> None:
        self.text, self.builder = text, builder
        self.at = self.depth = 0
        self.rules: dict[str, int] = {}
        self.named: dict[str, int] = {}  # where a rule was first asked for

    def read(self) -> int:
        """All rules; the one to begin with."""
        defined: set[str] = set()
        self._skip(_LINES)
        while self.at < len(self.text):
            name = self._name("the name of a rule")
            if name in defined:
                raise self._error(f"the rule {name!r} is there twice")
            defined.add(name)
            self._skip(_SPACE)
            if not self.text.startswith("::=", self.at):
                raise self._error(f"expected ::= behind {name!r}")
            self.at += 3
            self._skip(_LINES)
            self.builder.define(self._rule(name), self._alternatives())
            self._skip(_LINES)
        return self._root(defined)

    def _root(self, defined: set[str]) -> int:
        for name, at in self.named.items():
            if name not in defined:
                self.at = at
                raise self._error(f"there is no rule {name!r}")
        if "root" not in defined:
            raise GrammarError("the grammar has no rule `root`, with which an answer begins")
        return self.rules["root"]

    def _rule(self, name: str) -> int:
        if name not in self.rules:
            self.rules[name] = self.builder.later()
        return self.rules[name]

    def _alternatives(self) -> int:
        options = [self._sequence()]
        while self._goes_on():
            self.at += 1
            self._skip(_LINES)
            options.append(self._sequence())
        return self.builder.choice(*options)

    def _goes_on(self) -> bool:
        """Whether another alternative follows, perhaps on a line of its own."""
        end = _LINES.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing as well
        if self.text[end : end + 1] == "|":
            self.at = end
        return self.text[self.at : self.at + 1] == "|"

    def _sequence(self) -> int:
        parts: list[int] = []
        while True:
            self._skip(_LINES if self.depth else _SPACE)
            letter = self.text[self.at : self.at + 1]
            if letter in ("*", "+", "?", "{"):
                if not parts:
                    raise self._error(f"nothing stands before {letter} that could be repeated")
                parts.append(self._repeated(parts.pop(), letter))
                continue
            part = self._item(letter)
            if part is None:
                return self.builder.chain(*parts)
            parts.append(part)

    def _item(self, letter: str) -> int | None:
        readers: dict[str, Callable[[], int]] = {'"': self._literal, "[": self._set, "(": self._group}
        if letter in readers:
            return readers[letter]()
        if letter == ".":
            self.at += 1
            return self.builder.chars(ANY)
        if letter in ("<", "!"):
            raise self._error("tokens of a vocabulary cannot be named here; write their text")
        if not _NAME.match(self.text, self.at):
            return None
        begin = self.at
        name = self._name("a rule")
        self.named.setdefault(name, begin)
        return self._rule(name)

    def _literal(self) -> int:
        self.at += 1
        letters: list[int] = []
        while self._letter("a text") != '"':
            letters.append(self._code())
        self.at += 1
        return self.builder.chain(*(self.builder.chars(((code, code),)) for code in letters))

    def _set(self) -> int:
        self.at += 1
        negated = self._letter("a set") == "^"
        self.at += negated
        pairs: list[tuple[int, int]] = []
        while self._letter("a set") != "]":
            low = high = self._code()
            if self.text[self.at : self.at + 1] == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._code()
            if high < low:
                raise self._error("a range of characters ends before it begins")
            pairs.append((low, high))
        self.at += 1
        chosen: Ranges = ranges_of(pairs)
        return self.builder.chars(without(ANY, chosen) if negated else chosen)

    def _group(self) -> int:
        self.at += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"groups stand in groups more than {MAX_DEPTH} deep; give some of them names")
        inside = self._alternatives()
        self._skip(_LINES)
        if self.text[self.at : self.at + 1] != ")":
            raise self._error("a group is not closed")
        self.at += 1
        self.depth -= 1
        return inside

    def _repeated(self, part: int, letter: str) -> int:
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1), "{": (0, 0)}[letter]
        if letter != "{":
            self.at += 1
            return self.builder.repeat(part, low, high)
        found = _COUNT.match(self.text, self.at)
        if not found:
            raise self._error("expected {n}, {n,} or {n,m}")
        low = int(found[1])
        high = low if not found[2] else int(found[3]) if found[3] else None
        if max(low, high or 0) > MAX_COUNT or (high is not None and high < low):
            raise self._error(f"a repetition is from {low} to {high}, expected rising numbers up to {MAX_COUNT}")
        self.at = found.end()
        return self.builder.repeat(part, low, high)

    def _letter(self, inside: str) -> str:
        if self.at >= len(self.text) or self.text[self.at] in "\r\n":
            raise self._error(f"{inside} is not closed")
        return self.text[self.at]

    def _code(self) -> int:
        """One character of a text or a set, perhaps spelled with a backslash."""
        letter = self.text[self.at]
        if letter != "\\":
            self.at += 1
            return ord(letter)
        found = _HEX.match(self.text, self.at)
        if found:
            self.at = found.end()
            code = int(found[1] or found[2] or found[3], 16)
            if not any(low <= code <= high for low, high in ANY):
                raise self._error(f"{found[0]} is no character of Unicode")
            return code
        letter = self.text[self.at + 1 : self.at + 2]
        if letter not in _LETTERS:
            raise self._error(f"\\{letter} stands for nothing")
        self.at += 2
        return ord(_LETTERS[letter])

    def _name(self, what: str) -> str:
        found = _NAME.match(self.text, self.at)
        if not found:
            raise self._error(f"expected {what}")
        self.at = found.end()
        return found[0]

    def _skip(self, space: re.Pattern[str]) -> None:
        self.at = space.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing as well

    def _error(self, what: str) -> GrammarError:
        line = self.text.count("\n", 0, self.at) + 1
        here = self.text[self.at : self.at + 20].split("\n")[0]
        return GrammarError(f"line {line} of the grammar: {what}" + (f", at {here!r}" if here else ", at its end"))
