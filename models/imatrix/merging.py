"""Several matrices of one model become one: sums and counts are added, what was filled in is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.imatrix.matrix import Imatrix, Sums

DEFAULT_CHUNK = 512  # tokens; a .dat file counts chunks and does not say of what size


@dataclass(frozen=True, eq=False)
class Merged:
    """What several matrices make together; see `Imatrix`."""

    entries: Mapping[str, Sums]
    datasets: tuple[str, ...]
    chunk_count: int
    chunk_size: int


def merge(matrices: Sequence[Imatrix]) -> Merged:
    """Add up matrices, as llama-imatrix does with several --in-file; each keeps what the others do not have.

    A .dat file, whose sums are means times chunks, counts with the chunk size of the others. Experts that our writer
    filled count as not reached. Raises ModelError where two have one weight in different sizes.
    """
    assert matrices
    size = max((matrix.chunk_size for matrix in matrices), default=0) or DEFAULT_CHUNK
    entries: dict[str, Sums] = {}
    for matrix in matrices:
        for name in matrix.entries:
            sums = _own(matrix, name, size)
            entries[name] = _added(entries[name], sums, name, matrix.name) if name in entries else sums
    counts = max((int(sums.counts.max()) for sums in entries.values()), default=0)
    return Merged(entries, tuple(name for matrix in matrices for name in matrix.datasets), counts // size, size)


def _own(matrix: Imatrix, name: str, chunk_size: int) -> Sums:
    """What was measured, in tokens."""
    sums = matrix.entries[name].sums
    parts = [part for part in (matrix.filled or {}).get(name, ()) if part < len(sums.counts)]
    if parts:
        counts = sums.counts.copy()
        counts[parts] = 0
        sums = replace(sums, counts=counts, load=_Scaled(sums, (counts > 0).astype(np.float64)))
    if not matrix.chunk_size:
        factor = np.full(len(sums.counts), float(chunk_size))
        sums = replace(sums, counts=sums.counts * chunk_size, load=_Scaled(sums, factor))
    return sums


def _added(one: Sums, other: Sums, name: str, file: str) -> Sums:
    sizes = [len(sums.counts) * sums.n_per_part for sums in (one, other)]
    n_parts = max(len(one.counts), len(other.counts))
    if sizes[0] != sizes[1] or {len(one.counts), len(other.counts)} - {1, n_parts}:
        raise ModelError(f"{file} has {sizes[1]} values for {name}, the file before has {sizes[0]}; they are not of one"
                         " model")  # fmt: skip
    # one count for all experts (older files) is each expert's
    counts = np.broadcast_to(one.counts, n_parts) + np.broadcast_to(other.counts, n_parts)

    def load() -> npt.NDArray[np.float64]:
        return one.load().reshape(n_parts, -1) + other.load().reshape(n_parts, -1)

    return Sums(sizes[0] // n_parts, counts, load)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Loads sums with each part times a factor."""

    sums: Sums
    factors: npt.NDArray[np.float64]

    def __call__(self) -> npt.NDArray[np.float64]:
        return self.sums.load() * self.factors[:, None]
