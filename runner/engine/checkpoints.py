"""Copies of memory to come back to, in the machine's own memory: a limited amount, the longest unused leave first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nemotron_gguf.runner.engine.context import State


@dataclass(eq=False, slots=True)
class Checkpoint:
    """What cannot be rolled back, as it was behind the first `position` tokens of a text.

    `state` is None once it had to make room for others. Several sequences that begin alike have it in common.
    """

    position: int
    state: State | None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return 0 if self.state is None else self.state.nbytes

    def drop(self) -> None:
        """Give its memory back."""
        self.state = None


@dataclass(eq=False, slots=True)
class Parked:
    """All of a sequence that had to make room in the context: its tokens, its memory, its checkpoints."""

    tokens: list[int]
    state: State | None
    checkpoints: list[Checkpoint] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, without its checkpoints."""
        return 0 if self.state is None else self.state.nbytes + 8 * len(self.tokens)

    def drop(self) -> None:
        """Give its memory back."""
        self.state = None


class Store:
    """All copies that there are, at most `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._kept: OrderedDict[int, Checkpoint | Parked] = OrderedDict()  # the longest unused first

    def fits(self, nbytes: int) -> bool:
        """Whether so much could be kept at all."""
        return 0 < nbytes <= self.limit

    def keep(self, copy: Checkpoint | Parked) -> None:
        """Keep a copy that `fits`, in place of the longest unused ones."""
        assert self.fits(copy.nbytes)
        self._kept[id(copy)] = copy
        self.used += copy.nbytes
        while self.used > self.limit:
            self.drop(next(iter(self._kept.values())))

    def touch(self, copy: Checkpoint | Parked) -> None:
        """It was used."""
        if id(copy) in self._kept:
            self._kept.move_to_end(id(copy))

    def drop(self, copy: Checkpoint | Parked) -> None:
        """It is no longer wanted."""
        if self._kept.pop(id(copy), None) is None:
            return
        self.used -= copy.nbytes
        copy.drop()
        if isinstance(copy, Parked):
            copy.checkpoints.clear()

    def parked(self) -> list[Parked]:
        """Sequences that are kept apart from the context."""
        return [copy for copy in self._kept.values() if isinstance(copy, Parked)]

    def retain(self, wanted: Sequence[Sequence[Checkpoint]]) -> None:
        """Drop the checkpoints that no sequence, and nothing parked, has any more."""
        held = {id(one) for some in (*wanted, *(parked.checkpoints for parked in self.parked())) for one in some}
        for copy in [one for one in self._kept.values() if isinstance(one, Checkpoint) and id(one) not in held]:
            self.drop(copy)

    def __iter__(self) -> Iterator[Checkpoint | Parked]:
        return iter(list(self._kept.values()))


def alive(checkpoints: Sequence[Checkpoint], limit: int) -> list[Checkpoint]:
    """Those up to a position that still have their memory, in their order."""
    return [one for one in checkpoints if one.position <= limit and one.state is not None]
