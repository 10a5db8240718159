"""What a sequence of a context holds, and where in it a new prompt can begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nemotron_gguf.runner.engine.checkpoints import Checkpoint, Parked
from nemotron_gguf.runner.engine.context import State


@dataclass(eq=False, slots=True)
class Held:
    """A sequence of the context: its tokens, and the checkpoints along them in rising order.

    `turn` is where the last turn of its prompt begins: a prompt that has all before it goes on there, or tries again.
    `opening` is where its first question ends: one that has that, too, is the same conversation, perhaps edited. `task`
    is the answer that it was last used for.
    """

    number: int
    tokens: list[int] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    busy: bool = False
    used: int = 0
    turn: int = 0
    opening: int = 0
    task: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """Where a prompt can begin: behind the first `reach` tokens of what `source` holds, `common` of which it has, too.

    `state` is to be put back; None where the memory is cut, or goes on as it stands.
    """

    source: Held | Parked | None = None
    common: int = 0
    reach: int = 0
    state: State | None = None


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # lists are compared by the machine, so parts of them are
        middle = min(low + max((high - low + 1) // 2, 1), high)
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
