"""One option for each item, of least loss together, within a budget: solved exactly.

The items are gone through from the one that may cost most on. Of all combinations of those seen so far, one is kept if
no other costs and loses as little, and if the best that the rest could bring (fractions of options allowed, on the
convex hull of each item) is no worse than a whole solution that is known. Few survive: a file of 30 classes with twenty
types each is solved in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Option = tuple[int, float]
"""What an option costs (bytes) and loses."""

_SLACK = 1e-13  # of all that can be lost: sums in another order may differ by so much


@dataclass(frozen=True)
class _Rest:
    """What the items still to come bring at best: they cost `least` bytes and lose `most` if nothing is spent on them;
    `costs` and `gains` are sums `(n,)` of the steps up their hulls, the most profitable first."""

    least: int
    most: float
    costs: npt.NDArray[np.int64]
    gains: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _States:
    """Combinations: cost and loss of each, and which state of the item before and which option it came from."""

    costs: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float64]
    parents: npt.NDArray[np.int64]
    options: npt.NDArray[np.int64]


class Question:
    """Items with their options, to be asked with one budget or many."""

    def __init__(self, items: Sequence[Sequence[Option]]) -> None:
        kept = [undominated(options) for options in items]
        self._order = sorted(range(len(items)), key=lambda at: items[at][kept[at][0]][0] - items[at][kept[at][-1]][0])
        self._numbers = [kept[at] for at in self._order]
        self._options = [[items[at][option] for option in kept[at]] for at in self._order]
        self._rests = _rests(self._options)

    def best(self, budget: int, known: float = np.inf) -> tuple[int, ...] | None:
        """The number of the option to take for each item; None where the cheapest of all exceed `budget`.

        Also None, and at once, where no choice loses as little as `known`. Exact: no other choice within the budget
        loses less. Of equal ones the cheaper is taken. The same question always has the same answer, and a larger
        budget never a worse one.
        """
        if self._rests[0].least > budget:
            return None
        slack, zero = _SLACK * self._rests[0].most, np.zeros(1, np.int64)
        levels = [_States(zero, np.zeros(1), zero, zero)]
        for options, rest in zip(self._options, self._rests[1:], strict=True):
            known, states = _prune(_grow(levels[-1], options), rest, budget, known, slack)
            levels.append(states)
            if not len(states.costs):
                return None
        return self._traced(levels)

    def _traced(self, levels: Sequence[_States]) -> tuple[int, ...]:
        """The options that led to the best of the last states."""
        state = int(np.lexsort((levels[-1].costs, levels[-1].losses))[0])
        chosen = [0] * len(self._order)
        for level, at, numbers in zip(
            reversed(levels[1:]), reversed(self._order), reversed(self._numbers), strict=True
        ):
            chosen[at] = numbers[int(level.options[state])]
            state = int(level.parents[state])
        return tuple(chosen)


def best(items: Sequence[Sequence[Option]], budget: int) -> tuple[int, ...] | None:
    """The answer to a question that is asked once."""
    return Question(items).best(budget)


def undominated(options: Sequence[Option]) -> list[int]:
    """The options that are worth a thought: from the cheapest on, each loses less than all before it."""
    found: list[int] = []
    for index in sorted(range(len(options)), key=lambda number: (*options[number], number)):
        if not found or options[index][1] < options[found[-1]][1]:
            found.append(index)
    return found


def _hull(options: Sequence[Option]) -> list[Option]:
    """Steps (cost, gain) up the lower convex hull of undominated options, each less profitable than the one before."""
    corners: list[Option] = []
    for cost, loss in options:
        while len(corners) > 1:
            (cost_a, loss_a), (cost_b, loss_b) = corners[-2:]
            if (loss_a - loss_b) * (cost - cost_b) > (loss_b - loss) * (cost_b - cost_a):
                break
            corners.pop()
        corners.append((cost, loss))
    return [(b[0] - a[0], a[1] - b[1]) for a, b in pairwise(corners)]


def _rests(items: Sequence[Sequence[Option]]) -> list[_Rest]:
    """What is still to come before each item, and after the last: nothing."""
    found = []
    for place in range(len(items) + 1):
        steps = sorted((step for options in items[place:] for step in _hull(options)), key=lambda s: -s[1] / s[0])
        costs = np.cumsum([0, *(cost for cost, _ in steps)], dtype=np.int64)
        gains = np.cumsum([0.0, *(gain for _, gain in steps)])
        least, most = sum(o[0][0] for o in items[place:]), sum(o[0][1] for o in items[place:])
        found.append(_Rest(least, most, costs, gains))
    return found


def _grow(states: _States, options: Sequence[Option]) -> _States:
    """Every state with every option of one more item."""
    costs = states.costs[:, None] + np.array([cost for cost, _ in options], np.int64)
    losses = states.losses[:, None] + np.array([loss for _, loss in options])
    parents, numbers = np.indices(costs.shape)
    return _States(costs.ravel(), losses.ravel(), parents.ravel(), numbers.ravel())


def _prune(states: _States, rest: _Rest, budget: int, known: float, slack: float) -> tuple[float, _States]:
    """The loss of the best whole solution known, and the states that may still lead to a better one."""
    left = budget - rest.least - states.costs
    reach = np.interp(left, rest.costs, rest.gains)
    whole = rest.gains[np.maximum(np.searchsorted(rest.costs, left, side="right") - 1, 0)]
    is_possible = left >= 0
    ends = (states.losses + rest.most - whole)[is_possible]
    known = min(known, float(ends.min(initial=np.inf)))
    could_be = states.losses + rest.most - reach
    keep = np.flatnonzero(is_possible & (could_be <= known + slack))
    keep = keep[np.lexsort((keep, states.losses[keep], states.costs[keep]))]
    before = np.minimum.accumulate(np.concatenate(([np.inf], states.losses[keep][:-1])))
    keep = keep[states.losses[keep] < before]
    return known, _States(states.costs[keep], states.losses[keep], states.parents[keep], states.options[keep])
