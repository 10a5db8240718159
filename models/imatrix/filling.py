"""Experts that no token reached: a matrix that goes to quantizers says of them what it knows of their layer.

Readers take a count of zero for "all columns weigh one", which for one expert among many is far from what its input
looks like, and a reached expert whose neurons all stayed silent has a row of zeros, for which quantizers find no scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.imatrix.matrix import Sums


def fill(entries: Mapping[str, Sums]) -> tuple[dict[str, Sums], dict[str, tuple[int, ...]]]:
    """Entries in which no part is empty, and which parts of which were filled.

    A part that has no count, or sums that are all zero, becomes the mean of the tensor's others, weighted by their
    counts, with a count of one; where there are no others, ones.
    """
    filled: dict[str, Sums] = {}
    named: dict[str, tuple[int, ...]] = {}
    for name, sums in entries.items():
        empty = _empty_parts(sums)
        if len(empty):
            named[name] = tuple(empty.tolist())
            counts = sums.counts.copy()
            counts[empty] = 1
            filled[name] = replace(sums, counts=counts, load=_Filled(sums, empty))
        else:
            filled[name] = sums
    return filled, named


def _empty_parts(sums: Sums) -> npt.NDArray[np.intp]:
    return np.flatnonzero((sums.counts <= 0) | ~(sums.load() > 0).any(axis=1))


@dataclass(frozen=True, eq=False)
class _Filled:
    """Loads sums with the empty parts at the mean of the others."""

    sums: Sums
    empty: npt.NDArray[np.intp]

    def __call__(self) -> npt.NDArray[np.float64]:
        values = self.sums.load().copy()
        counts = self.sums.counts.copy()
        values[self.empty], counts[self.empty] = 0, 0
        total = int(counts.sum())
        values[self.empty] = values.sum(axis=0) / total if total else 1.0
        return values
