"""Rows of one width and number become rows of another: zeros appended, or neurons left out; chunk by chunk.

What is read stays as it lies in the source; the change happens on the way to each file. So files of different widths
are made in one pass over one source.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Kept = npt.NDArray[np.int64]
"""`(n_matrices, n_kept) int64`: the neurons that stay, for each expert, ascending."""


@dataclass(frozen=True, eq=False)
class Side:
    """Rows or columns of a matrix: how many there were and are.

    More than there were: zeros behind them, in each of `halves` equal parts by itself. Fewer: those of `kept`; without
    it a plan can be looked at (sizes), not carried out.
    """

    old: int
    new: int
    kept: Kept | None = None
    halves: int = 1

    def __post_init__(self) -> None:
        assert self.new >= self.old or self.halves == 1
        assert self.kept is None or self.kept.shape[1] == self.new < self.old, (self.old, self.new)

    @property
    def is_trimmed(self) -> bool:
        """Whether neurons are left out."""
        return self.new < self.old

    def kept_of(self, matrix: int) -> npt.NDArray[np.int64]:
        """The indices that stay of a matrix (an expert)."""
        assert self.kept is not None, "a plan without neurons to keep cannot be carried out"
        return np.asarray(self.kept[matrix if len(self.kept) > 1 else 0])


@dataclass(frozen=True, eq=False)
class Resize:
    """What becomes of a tensor of matrices (one, or one an expert), each of old rows × old columns.

    `scale` is what the values are multiplied with. A vector is a matrix of one row.
    """

    rows: Side
    columns: Side
    scale: float = 1.0

    def place(self, row: int) -> int:
        """How many rows of the result come before row `row` of the source, counted over all matrices.

        Zeros that are appended belong to the last row of their matrix.
        """
        matrix, inside = divmod(row, self.rows.old)
        if inside and self.rows.is_trimmed:
            inside = bisect_left(self.rows.kept_of(matrix), inside)
        return matrix * self.rows.new + inside

    def apply(self, values: npt.NDArray[np.generic], first: int) -> npt.NDArray[np.generic]:
        """`(n, old columns)` numbers from row `first` of the source on, as `(m, new columns)` of the result."""
        begin = self.place(first)
        out = np.zeros((self.place(first + len(values)) - begin, self.columns.new), dtype=values.dtype)
        at = 0
        while at < len(values):
            matrix, inside = divmod(first + at, self.rows.old)
            n = min(len(values) - at, self.rows.old - inside)
            taken = values[at : at + n]
            if self.rows.is_trimmed:
                kept = self.rows.kept_of(matrix)
                taken = taken[kept[(kept >= inside) & (kept < inside + n)] - inside]
            place = self.place(first + at) - begin
            resize_columns(taken, self.columns, matrix, out[place : place + len(taken)])
            at += n
        return out


def resize_columns(
    values: npt.NDArray[np.generic], side: Side, matrix: int, out: npt.NDArray[np.generic]
) -> npt.NDArray[np.generic]:
    """Columns of `(n, side.old)` into `(n, side.new)`, which holds zeros; returns it."""
    if side.is_trimmed:
        np.take(values, side.kept_of(matrix), axis=1, out=out)
        return out
    old, new = side.old // side.halves, side.new // side.halves
    for half in range(side.halves):
        out[:, half * new : half * new + old] = values[:, half * old : (half + 1) * old]
    return out
