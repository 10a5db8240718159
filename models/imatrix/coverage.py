"""Which experts a text reached, and how often: one that saw three tokens is known as little as one that saw none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Coverage:
    """Tokens that each expert of a stacked tensor saw: the fewest, the median, the most; those that saw none."""

    name: str
    n_experts: int
    smallest: int
    median: float
    largest: int
    unreached: tuple[int, ...]


def coverage_of(
    counts: Mapping[str, npt.NDArray[np.int64]], filled: Mapping[str, Iterable[int]] | None = None
) -> list[Coverage]:
    """The coverage of every stacked tensor among `counts` by name; experts that were `filled` count as unreached.

    A layer's up and down projections see the same tokens, so they are one line, under the first name.
    """
    found: dict[tuple[str, bytes], Coverage] = {}
    for name, numbers in sorted(counts.items(), key=lambda item: natural(item[0])):
        if len(numbers) < 2:
            continue
        tokens = numbers.copy()
        tokens[list((filled or {}).get(name, ()))] = 0
        layer = name.rpartition(".ffn_")[0]
        found.setdefault((layer, tokens.tobytes()), _coverage(name, tokens))
    return list(found.values())


def _coverage(name: str, tokens: npt.NDArray[np.int64]) -> Coverage:
    unreached = tuple(np.flatnonzero(tokens <= 0).tolist())
    return Coverage(name, len(tokens), int(tokens.min()), float(np.median(tokens)), int(tokens.max()), unreached)


def smallest(coverage: Sequence[Coverage]) -> int | None:
    """Tokens that the least used of all experts saw, None where there are no experts."""
    return min((one.smallest for one in coverage), default=None)


def natural(name: str) -> tuple[object, ...]:
    """An order in which layer 10 follows layer 9."""
    return tuple(int(part) if part.isdecimal() else -1 for part in name.split(".")), name
