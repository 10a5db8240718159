"""Texts that satisfy several regular languages at once, as a pattern and a length: one graph without dead ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.graph import Builder, Chain, Chars, Choice, Node
from nemotron_gguf.runner.grammar.ranges import Ranges, ranges_of
from nemotron_gguf.runner.grammar.stacks import END, Stacks, Ways

MAX_STATES = 6000

Encode: TypeAlias = Callable[[Builder, Ranges], int]
"""The node of one of these characters, as it is to be written."""

_State: TypeAlias = tuple[Ways, ...]
_Steps: TypeAlias = list[dict[int, list[tuple[int, int]]]]  # by state: the next one, and the characters that lead there


def encoded(nodes: Sequence[Node], root: int, builder: Builder, encode: Encode) -> int:
    """A regular language's node in another graph, each of its characters as it is to be written."""
    known: dict[int, int] = {}

    def copy(number: int) -> int:
        if number not in known:
            known[number] = fresh(nodes[number])
        return known[number]

    def fresh(node: Node) -> int:
        if isinstance(node, Chars):
            return encode(builder, node.ranges)
        if isinstance(node, Chain):
            return builder.chain(*map(copy, node.parts))
        if isinstance(node, Choice):
            return builder.choice(*map(copy, node.options))
        return builder.repeat(copy(node.part), node.low, node.high)

    return copy(root)


def lengths(nodes: Sequence[Node], root: int) -> tuple[int, int | None]:
    """The fewest and the most characters of a regular language's texts; None where there is no most."""
    known: dict[int, tuple[int, int | None]] = {}

    def of(number: int) -> tuple[int, int | None]:
        if number not in known:
            known[number] = measured(nodes[number])
        return known[number]

    def measured(node: Node) -> tuple[int, int | None]:
        if isinstance(node, Chars):
            return 1, 1
        if isinstance(node, Chain):
            parts = [of(part) for part in node.parts]
            return sum(low for low, _ in parts), _summed([high for _, high in parts])
        if isinstance(node, Choice):
            options = [of(option) for option in node.options] or [(0, 0)]
            highs = [high for _, high in options]
            return min(low for low, _ in options), None if None in highs else max(h for h in highs if h is not None)
        low, high = of(node.part)
        most = None if high is None or node.high is None else high * node.high
        return low * node.low, 0 if high == 0 else most

    return of(root)


def _summed(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def intersection(nodes: Sequence[Node], roots: Sequence[int], builder: Builder, encode: Encode) -> int:
    """The node, in `builder`, of the texts that satisfy all `roots`. Raises GrammarError where that takes too much."""
    steps, ends = _explored(nodes, roots)
    alive = _completed(steps, ends)
    numbers = [builder.later() for _ in steps]
    for state, following in enumerate(steps):
        options = [builder.empty] if state in ends else []
        for target, pairs in following.items():
            if target in alive:
                options.append(builder.chain(encode(builder, ranges_of(pairs)), numbers[target]))
        builder.define(numbers[state], builder.choice(*options))
    return numbers[0]


def _explored(nodes: Sequence[Node], roots: Sequence[int]) -> tuple[_Steps, set[int]]:
    """The states that can be reached, the first one the beginning, and at which of them a text may end."""
    stacks = Stacks(nodes)
    states: list[_State] = [tuple(stacks.begin(root) for root in roots)]
    place, steps, ends = {states[0]: 0}, _Steps(), set[int]()
    while len(steps) < len(states):
        state, following = states[len(steps)], dict[int, list[tuple[int, int]]]()
        if all(END in ways for ways in state):
            ends.add(len(steps))
        for low, high in _pieces(stacks, state):
            target = tuple(stacks.after(ways, low) for ways in state)
            if all(target):
                if target not in place:
                    place[target] = len(states)
                    states.append(target)
                following.setdefault(place[target], []).append((low, high))
        steps.append(following)
        if len(states) > MAX_STATES:
            raise GrammarError("what must hold of a text at once takes too much; make its lengths smaller")
    return steps, ends


def _pieces(stacks: Stacks, state: _State) -> Iterator[tuple[int, int]]:
    """Ranges of characters between which no language of a state tells a difference."""
    borders = set[int]()
    for ways in state:
        for cell in ways - {END}:
            node = stacks.nodes[stacks.cells[cell][0]]
            assert isinstance(node, Chars)
            for low, high in node.ranges:
                borders |= {low, high + 1}
    ordered = sorted(borders)
    return ((low, high - 1) for low, high in pairwise(ordered))


def _completed(steps: Sequence[Mapping[int, object]], ends: set[int]) -> set[int]:
    """The states from which an end can be reached."""
    before: list[list[int]] = [[] for _ in steps]
    for state, following in enumerate(steps):
        for target in following:
            before[target].append(state)
    alive, todo = set(ends), list(ends)
    while todo:
        fresh = [state for state in before[todo.pop()] if state not in alive]
        alive.update(fresh)
        todo += fresh
    return alive
