"""How much of the context's room is taken: tokens that several sequences share are counted once."""

from __future__ import annotations

from collections.abc import Iterable


class _Run:
    """Neighbouring tokens that one sequence read; how many of them, from the first on, each of its holders has."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: dict[int, int] = {}


class Cells:
    """Which tokens of the room each sequence holds, by the sequence's number."""

    def __init__(self, n_sequences: int) -> None:
        self._runs: list[list[_Run]] = [[] for _ in range(n_sequences)]
        self._taken: int | None = 0  # None: to be counted again

    def add(self, sequence: int, count: int) -> None:
        """A sequence has read so many tokens more."""
        runs = self._runs[sequence]
        if not runs or len(runs[-1].held) > 1:  # what others hold as well does not grow with one of them
            runs.append(_Run())
        held = runs[-1].held
        held[sequence] = held.get(sequence, 0) + count
        if self._taken is not None:
            self._taken += count

    def cut(self, sequence: int, length: int) -> None:
        """A sequence keeps only its first `length` tokens."""
        kept: list[_Run] = []
        for run in self._runs[sequence]:
            count = min(run.held[sequence], length)
            length -= count
            if count:
                run.held[sequence] = count
                kept.append(run)
            else:
                del run.held[sequence]
        self._runs[sequence] = kept
        self._taken = None

    def share(self, source: int, target: int, length: int) -> None:
        """An empty sequence has got the first `length` tokens of another."""
        assert not self._runs[target]
        for run in self._runs[source]:
            count = min(run.held[source], length)
            length -= count
            if count:
                run.held[target] = count
                self._runs[target].append(run)

    def held_by(self, sequences: Iterable[int]) -> int:
        """Tokens of room that these sequences take together."""
        wanted = frozenset(sequences)
        runs = {id(run): run for sequence in wanted for run in self._runs[sequence]}
        return sum(max(run.held[holder] for holder in wanted & run.held.keys()) for run in runs.values())

    @property
    def taken(self) -> int:
        """Tokens of room that are taken."""
        if self._taken is None:
            self._taken = self.held_by(range(len(self._runs)))
        return self._taken
