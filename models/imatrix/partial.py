"""A matrix that is still being collected: sums in double precision, so that going on later gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.file_bytes import FileBytes
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo, read_gguf
from nemotron_gguf.models.gguf_values import string, u32
from nemotron_gguf.models.imatrix.matrix import COUNTS, SUMS, Sums
from nemotron_gguf.models.imatrix.writing import Tensor, write_tensors

_KIND = "imatrix.partial"
_BOUND, _DONE = "nemotron_gguf.partial.bound_to", "nemotron_gguf.partial.chunks_done"


@dataclass(frozen=True, eq=False)
class Partial:
    """What was collected: entries by weight, over the first `chunks_done` chunks; `bound_to` says of what and how."""

    entries: Mapping[str, Sums]
    chunks_done: int
    bound_to: str


def save_partial(path: Path, partial: Partial) -> None:
    """Replace the file at once: after a kill there is the one before or this one. Raises ModelError."""
    metadata = {"general.type": string(_KIND), _BOUND: string(partial.bound_to), _DONE: u32(partial.chunks_done)}
    tensors: list[Tensor] = []
    for name, sums in partial.entries.items():
        shape = (len(sums.counts), sums.n_per_part)
        tensors.append((name + SUMS, shape, GGMLType.F64, lambda sums=sums: sums.load().astype("<f8")))  # type: ignore[misc]
        tensors.append(
            (name + COUNTS, (len(sums.counts),), GGMLType.I64, lambda sums=sums: sums.counts.astype("<i8"))  # type: ignore[misc]
        )
    write_tensors(path, metadata, tensors)


def read_partial(path: Path) -> Partial:
    """What `save_partial` wrote, sums read on demand. Raises ModelError for any other file."""
    file = read_gguf(path)
    bound, done = file.get(_BOUND), file.get(_DONE)
    if file.get("general.type") != _KIND or not isinstance(bound, str) or not isinstance(done, int):
        raise ModelError(f"{path} is no unfinished importance matrix; remove it, or give another --output")
    by_name = {tensor.name: tensor for tensor in file.tensors}
    names = [name.removesuffix(SUMS) for name in by_name if name.endswith(SUMS)]
    if any(name + COUNTS not in by_name for name in names):
        raise ModelError(f"{path} is damaged; remove it")
    return Partial({name: _sums(file, by_name[name + SUMS], by_name[name + COUNTS]) for name in names}, done, bound)


def _sums(file: GGUFFile, sums: TensorInfo, counts: TensorInfo) -> Sums:
    source = FileBytes(file.path, file.file_size)
    n_parts, damaged = counts.n_elements, ModelError(f"{file.path} is damaged; remove it")
    if sums.type is not GGMLType.F64 or counts.type is not GGMLType.I64 or not n_parts or sums.n_elements % n_parts:
        raise damaged

    def load() -> npt.NDArray[np.float64]:
        values: npt.NDArray[np.float64] = source.read(sums.offset, sums.nbytes).view("<f8").astype(np.float64)
        return values.reshape(n_parts, -1)

    return Sums(
        sums.n_elements // n_parts, source.read(counts.offset, counts.nbytes).view("<i8").astype(np.int64), load
    )
