"""Reading by a grammar: all the ways to read what came so far, side by side, and what each lets follow.

A way is a cell: what is to be read next, and the cell of what comes behind. Equal cells are one, so that ways which
have the same ahead of them are one as well, however they came there; libllama's own reader keeps them apart, and takes
exponential time where a grammar can read a text in many ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.effort import spend
from nemotron_gguf.runner.grammar.graph import Chain, Chars, Choice, Node
from nemotron_gguf.runner.grammar.ranges import has

MAX_WAYS = 20_000
END = 0
"""The cell behind which nothing comes."""

Ways: TypeAlias = frozenset[int]
"""Cells at a character each, and `END` where the text may end."""

_Cell: TypeAlias = tuple[int, int, int, int]  # node, two counts, the cell behind


class Stacks:
    """The cells of a grammar's nodes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.cells: list[_Cell] = [(-1, 0, 0, 0)]
        self._known: dict[_Cell, int] = {}

    def begin(self, node: int) -> Ways:
        """Before the first character."""
        return self.closed([self._enter(node, END)])

    def after(self, ways: Ways, value: int) -> Ways:
        """Behind one more character; empty where it cannot be."""
        cells, nodes = self.cells, self.nodes
        following = set()
        for cell in ways:
            if cell:
                node, _, _, behind = cells[cell]
                if has(nodes[node].ranges, value):  # type: ignore[union-attr]  # ways are at characters
                    following.add(behind)
        spend(len(ways))
        return self.closed(following) if following else frozenset()

    def closed(self, cells: Iterable[int]) -> Ways:
        """All characters that may come next, from cells at anything. Raises GrammarError for too many ways."""
        found, todo = set[int](), list(cells)
        seen = set(todo)
        while todo:
            cell = todo.pop()
            if cell == END or isinstance(self.nodes[self.cells[cell][0]], Chars):
                found.add(cell)
                continue
            for following in self._opened(cell):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
            if len(seen) > MAX_WAYS:
                raise GrammarError(
                    f"there are more than {MAX_WAYS} ways to read the text so far; make it less ambiguous"
                )
        spend(len(seen))
        return frozenset(found)

    def _opened(self, cell: int) -> list[int]:
        number, low, high, behind = self.cells[cell]
        node = self.nodes[number]
        if isinstance(node, Choice):
            return [self._enter(option, behind) for option in node.options]
        if isinstance(node, Chain):
            if not node.parts:
                return [behind]
            rest = self._cell(number, low + 1, 0, behind) if low + 1 < len(node.parts) else behind
            return [self._enter(node.parts[low], rest)]
        assert not isinstance(node, Chars)
        if high == 0:
            return [behind]
        again = self._cell(number, max(low - 1, 0), high - 1 if high > 0 else high, behind)
        entered = [self._enter(node.part, again)]
        return entered if low else [*entered, behind]

    def _enter(self, number: int, behind: int) -> int:
        node = self.nodes[number]
        if isinstance(node, Chars | Chain | Choice):
            return self._cell(number, 0, 0, behind)
        return self._cell(number, node.low, -1 if node.high is None else node.high, behind)

    def _cell(self, node: int, low: int, high: int, behind: int) -> int:
        key = node, low, high, behind
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.cells)
            self.cells.append(key)
        return known

    def copied(self, ways: Ways) -> tuple[Stacks, Ways]:
        """The same ways among cells of their own, without those that are of no more use."""
        other, place, todo = Stacks(self.nodes), {END: END}, sorted(ways)
        while todo:
            cell = todo[-1]
            node, low, high, behind = self.cells[cell]
            if cell in place:
                todo.pop()
            elif behind in place:
                place[cell] = other._cell(node, low, high, place[behind])
            else:
                todo.append(behind)
        return other, frozenset(place[cell] for cell in ways)


def reads(nodes: Sequence[Node], root: int, values: Iterable[int]) -> bool:
    """Whether a whole text satisfies a node."""
    stacks = Stacks(nodes)
    ways = stacks.begin(root)
    for value in values:
        ways = stacks.after(ways, value)
    return END in ways
