"""What an importance matrix is made of: an entry of a file, a whole file, and sums on their way into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.file_bytes import FileBytes

SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNK_COUNT, CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
FILLED = "nemotron_gguf.imatrix.filled"
"""Key of ours: experts whose importance is their layer's mean, as `NAME:3,17`."""
_STEP = 1 << 20  # values looked at together


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of squares of one tensor, and how many tokens they are over.

    `counts` is `(n_parts,) int64`, one for each expert of a stacked tensor, else one; `load` gives the sums,
    `(n_parts, n_per_part) float64`, from wherever they lie.
    """

    n_per_part: int
    counts: npt.NDArray[np.int64]
    load: Callable[[], npt.NDArray[np.float64]]

    @classmethod
    def of(cls, values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> Self:
        """Sums that are in memory."""
        assert values.shape[0] == counts.shape[0], (values.shape, counts.shape)
        return cls(values.shape[1], counts, lambda: values)


@dataclass(frozen=True, eq=False)
class ImatrixEntry:
    """The importance of one tensor: `n_values` sums of squares, in as many equal parts as `counts` has items.

    `counts` is `(n_parts,) float32`, what the sums of a part (an expert) are divided by; where it is not positive the
    expert was never used, and all its columns weigh one.
    """

    source: FileBytes
    offset: int
    n_values: int
    counts: npt.NDArray[np.float32]

    def read(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Mean squares `first` up to `last`, `(last - first,) float32`, divided as llama.cpp divides them."""
        sums = self.source.read(self.offset + 4 * first, 4 * (last - first)).view("<f4")
        counts = self.counts[np.arange(first, last) // self.n_per_part]
        means: npt.NDArray[np.float32] = np.ones(last - first, dtype=np.float32)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    @property
    def n_per_part(self) -> int:
        """Columns of an expert, or of the tensor."""
        return self.n_values // len(self.counts)

    @property
    def sums(self) -> Sums:
        """The sums as the file has them, with an expert that was never used at zero."""

        def load() -> npt.NDArray[np.float64]:
            values = self.source.read(self.offset, 4 * self.n_values).view("<f4").astype(np.float64)
            values = values.reshape(len(self.counts), self.n_per_part)
            values[self.counts <= 0] = 0
            return values

        return Sums(self.n_per_part, np.maximum(self.counts, 0).astype(np.int64), load)

    def first_zero_row(self, n_per_row: int) -> int | None:
        """The first of the rows of `n_per_row` columns (one a matrix) in which no column weighs anything."""
        per_step = max(1, _STEP // n_per_row)
        for first in range(0, self.n_values // n_per_row, per_step):
            last = min(first + per_step, self.n_values // n_per_row)
            rows = self.read(first * n_per_row, last * n_per_row).reshape(-1, n_per_row)
            empty = np.flatnonzero(~(rows > 0).any(axis=1))
            if len(empty):
                return first + int(empty[0])
        return None


@dataclass(frozen=True, eq=False)
class Imatrix:
    """A whole file: entries by the name of their weight; `name` is the path as it was given.

    `chunk_size` in tokens, 0 where the file does not tell (.dat); `filled` names the experts, by their tensor, that no
    token reached and that the writer filled with their layer's mean.
    """

    name: str
    entries: Mapping[str, ImatrixEntry]
    datasets: tuple[str, ...]
    chunk_count: int
    chunk_size: int = 0
    filled: Mapping[str, tuple[int, ...]] | None = None

    def check_rows(self, weight: str, n_per_row: int) -> None:
        """Refuse an entry with a row of zeros: a search whose errors all weigh nothing ends anywhere.

        `n_per_row`: columns of the tensor. Raises ModelError that names the row's matrix.
        """
        row = self.entries[weight].first_zero_row(n_per_row)
        if row is not None:
            raise ModelError(
                f"{self.name}: all the importance of matrix {row} of {weight} is zero, so nothing says how to quantize"
                " it; compute the matrix over more text, or fill it: `nemotron imatrix --merge FILE -o OUT.gguf`"
            )


def spans(n_values: int) -> Iterator[tuple[int, int]]:
    """Pieces in which many values are looked at: first and last, the latter not included."""
    return ((first, min(first + _STEP, n_values)) for first in range(0, n_values, _STEP))
