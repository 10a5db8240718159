"""A grammar's automaton over bytes, made as far as an answer goes, and which tokens each of its states lets follow."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.engine.spellings import Spellings
from nemotron_gguf.runner.grammar.graph import Chars, Grammar
from nemotron_gguf.runner.grammar.stacks import END, Stacks, Ways

MAX_STATES = 1 << 13  # kilobytes; with more, an answer goes on with an automaton of its own
KEPT_MASKS = 64
NOWHERE, _UNKNOWN = -1, -2

Mask: TypeAlias = npt.NDArray[np.bool_]
"""For each token whether it may follow, `(n_vocab,)`."""


class Matcher:
    """States by number: all ways to read what came so far. Several answers may use one."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.stacks = Stacks(grammar.nodes)
        self.ways: list[Ways] = []
        self._place: dict[Ways, int] = {}
        self._table = np.full((64, 256), _UNKNOWN, np.int32)  # the state behind each byte
        self._complete: set[int] = set()  # states whose row is known
        self._masks: OrderedDict[int, Mask] = OrderedDict()
        self.root = self._state(self.stacks.begin(grammar.root))
        self.start = self._state(self.stacks.begin(grammar.start))

    @property
    def is_large(self) -> bool:
        """Whether it has become so large that others had better begin with another."""
        return len(self.ways) > MAX_STATES

    def run(self, state: int, text: bytes) -> int:
        """The state behind a text, NOWHERE where it cannot be. Raises GrammarError where that is too much work."""
        for byte in text:
            following = self._table[state, byte]
            state = self._step(state, byte) if following == _UNKNOWN else int(following)
            if state == NOWHERE:
                break
        return state

    def is_whole(self, state: int) -> bool:
        """Whether the text may end here."""
        return END in self.ways[state]

    def is_over(self, state: int) -> bool:
        """Whether it has to."""
        return self.ways[state] == {END}

    def mask(self, state: int, spelled: Spellings) -> Mask:
        """Which tokens may follow, those that end an answer not among them. Raises GrammarError for too much work."""
        known = self._masks.get(state)
        if known is None:
            known = self._masks[state] = self._following(state, spelled)
            if len(self._masks) > KEPT_MASKS:
                self._masks.popitem(last=False)
        else:
            self._masks.move_to_end(state)
        return known

    def settled(self, state: int) -> tuple[Matcher, int]:
        """The same state in an automaton that is not too large."""
        if not self.is_large:
            return self, state
        other = Matcher(self.grammar)
        other.stacks, ways = self.stacks.copied(self.ways[state])
        other.ways, other._place = [], {}
        other._table[:] = _UNKNOWN
        other._complete.clear()
        other.root, other.start = (
            other._state(other.stacks.begin(node)) for node in (self.grammar.root, self.grammar.start)
        )
        return other, other._state(ways)

    def _state(self, ways: Ways) -> int:
        if not ways:
            return NOWHERE
        if ways not in self._place:
            self._place[ways] = len(self.ways)
            self.ways.append(ways)
            if len(self.ways) > len(self._table):
                more = np.full_like(self._table, _UNKNOWN)
                self._table = np.concatenate([self._table, more])
        return self._place[ways]

    def _step(self, state: int, byte: int) -> int:
        following = self._state(self.stacks.after(self.ways[state], byte))
        self._table[state, byte] = following
        return following

    def _fill(self, state: int) -> None:
        """A whole row of the table: bytes between which the grammar tells no difference are looked at once."""
        if state in self._complete:
            return
        borders = {0, 256}
        for cell in self.ways[state] - {END}:
            node = self.stacks.nodes[self.stacks.cells[cell][0]]
            assert isinstance(node, Chars)
            for low, high in node.ranges:
                borders |= {low, high + 1}
        ordered = sorted(borders)
        for low, high in pairwise(ordered):
            self._table[state, low:high] = self._step(state, low)
        self._complete.add(state)

    def _following(self, state: int, spelled: Spellings) -> Mask:
        """Byte after byte for all tokens that are still possible."""
        allowed = np.zeros(spelled.size, np.bool_)
        self._fill(state)
        live = spelled.beginning([byte for byte in range(256) if self._table[state, byte] != NOWHERE])
        states = self._table[state, spelled.data[spelled.starts[live]]]
        depth = 1
        while live.size:
            is_done = spelled.lengths[live] == depth
            allowed[spelled.tokens[live[is_done]]] = True
            live, states = live[~is_done], states[~is_done]
            for reached in np.flatnonzero(np.bincount(states)):
                self._fill(int(reached))
            states = self._table[states, spelled.data[spelled.starts[live] + depth]]
            live, states = live[states != NOWHERE], states[states != NOWHERE]
            depth += 1
        return allowed
