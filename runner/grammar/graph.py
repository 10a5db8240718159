"""A grammar as a graph of nodes that name each other by number: what every notation becomes, and the engine reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

from msgspec import Struct

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.effort import spend
from nemotron_gguf.runner.grammar.ranges import Ranges, of_text

MAX_NODES = 60_000
_WIDE = 64  # parts of one node: more are put into nodes of their own, so that no step over a node is long
_DEEP = 100  # how often texts may go apart before the rest of them are simply listed


class Chars(Struct, frozen=True, tag="c", array_like=True):
    """One of these characters; in a `Grammar`, one of these bytes."""

    ranges: Ranges


class Chain(Struct, frozen=True, tag="s", array_like=True):
    """One after the other; without parts, nothing."""

    parts: tuple[int, ...]


class Choice(Struct, frozen=True, tag="o", array_like=True):
    """One of these; without options, what nothing satisfies."""

    options: tuple[int, ...]


class Repeat(Struct, frozen=True, tag="r", array_like=True):
    """The part from `low` to `high` times; None for any number."""

    part: int
    low: int
    high: int | None


Node: TypeAlias = Chars | Chain | Choice | Repeat


class Grammar(Struct, frozen=True, array_like=True):
    """A checked grammar over the bytes of UTF-8: some text satisfies it, and every beginning can be completed.

    `root` is the node that an answer is, `start` what it is where it may begin with a reasoning of its own.
    """

    nodes: tuple[Node, ...]
    root: int
    start: int


class Builder:
    """Makes a graph; equal nodes are one. Raises GrammarError where it gets too large."""

    def __init__(self, most: int = MAX_NODES) -> None:
        self.most = most
        self.nodes: list[Node] = []
        self._known: dict[Node, int] = {}
        self.empty, self.never = self.add(Chain(())), self.add(Choice(()))

    def add(self, node: Node) -> int:
        """The number of a node."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._append(node)
        return known

    def _append(self, node: Node) -> int:
        if len(self.nodes) >= self.most:
            raise GrammarError(f"it takes more than {self.most} parts; make it smaller")
        spend(1)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def later(self) -> int:
        """A node that others may name before it is known what it is."""
        return self._append(Choice(()))

    def define(self, number: int, target: int) -> None:
        """A node of `later` is this one."""
        self.nodes[number] = Choice((target,))

    def chars(self, ranges: Ranges) -> int:
        """One of these characters."""
        return self.add(Chars(ranges))

    def text(self, text: str) -> int:
        """This text."""
        return self.chain(*(self.chars(of_text(letter)) for letter in text))

    def chain(self, *parts: int) -> int:
        """One after the other."""
        wanted = [part for part in parts if part != self.empty]
        while len(wanted) > _WIDE:
            wanted = [self.chain(*wanted[at : at + _WIDE]) for at in range(0, len(wanted), _WIDE)]
        return wanted[0] if len(wanted) == 1 else self.add(Chain(tuple(wanted)))

    def choice(self, *options: int) -> int:
        """One of these."""
        wanted = list(dict.fromkeys(option for option in options if option != self.never))
        while len(wanted) > _WIDE:
            wanted = [self.choice(*wanted[at : at + _WIDE]) for at in range(0, len(wanted), _WIDE)]
        return wanted[0] if len(wanted) == 1 else self.add(Choice(tuple(wanted)))

    def repeat(self, part: int, low: int = 0, high: int | None = None) -> int:
        """The part so many times."""
        if (low, high) == (1, 1):
            return part
        return self.empty if high == 0 else self.add(Repeat(part, low, high))

    def optional(self, *parts: int) -> int:
        """All of the parts, or nothing."""
        return self.repeat(self.chain(*parts), 0, 1)

    def literals(self, texts: Iterable[str]) -> int:
        """One of many texts; what several begin with is looked at once."""
        return self._literals(sorted(set(texts)), 0)

    def _literals(self, texts: Sequence[str], depth: int) -> int:
        if len(texts) == 1 or depth > _DEEP:
            return self.choice(*map(self.text, texts))
        options = [] if texts[0] else [self.empty]
        for letter, group in groupby(filter(None, texts), key=lambda text: text[0]):
            same = list(group)
            common = _common(same[0], same[-1]) if len(same) > 1 else len(same[0])
            rest = self._literals([text[common:] for text in same], depth + 1)
            options.append(self.chain(self.text(same[0][:common] if common else letter), rest))
        return self.choice(*options)


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with; of sorted texts the first and the last have what all have."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
