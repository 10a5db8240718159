"""Importance matrices: how strongly each input column of a weight was excited, as llama.cpp's tools write them.

Two formats are read: GGUF (tensors `<weight>.in_sum2` and `<weight>.counts`, a count for each expert of a stacked
tensor) and the older .dat (a list of entries, a chunk count, the data set's name). Values are read on demand, so that
the matrix of a model with hundreds of experts a layer does not sit in memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.file_bytes import FileBytes
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo, read_gguf
from nemotron_gguf.models.gguf_values import ValueType
from nemotron_gguf.models.gguf_writer import MAGIC

SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNK_COUNT, CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
MAX_ENTRIES = 1_000_000
_STEP = 1 << 20  # values looked at together when a file is checked


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
        counts = self.counts[np.arange(first, last) // (self.n_values // len(self.counts))]
        means: npt.NDArray[np.float32] = np.ones(last - first, dtype=np.float32)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means


@dataclass(frozen=True, eq=False)
class Imatrix:
    """A whole file: entries by the name of their weight; `name` is the path as it was given."""

    name: str
    entries: Mapping[str, ImatrixEntry]
    datasets: tuple[str, ...]
    chunk_count: int


def read_imatrix(path: str | Path) -> Imatrix:
    """Read a file in either format and check every value.

    Raises ModelError, with what was found and what was expected, where it is no sound importance matrix.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            is_gguf = opened.read(len(MAGIC)) == MAGIC
            opened.seek(0)
            if is_gguf:
                imatrix = _read_gguf(str(path), read_gguf(file))
            else:
                imatrix = _Legacy(str(path), file, size, opened).read()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    for name, entry in imatrix.entries.items():
        if not all(np.isfinite(entry.read(*span)).all() for span in _spans(entry.n_values)):
            raise ModelError(f"{path}: the importance of {name} has values that are not finite; compute it again")
    return imatrix


def _spans(n_values: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + _STEP, n_values)) for first in range(0, n_values, _STEP))


def _read_gguf(name: str, file: GGUFFile) -> Imatrix:
    chunks = file.metadata.get(CHUNK_COUNT)
    datasets = file.metadata.get(DATASETS)
    if chunks is None or datasets is None or CHUNK_SIZE not in file.metadata:
        kind = file.get("general.type")
        raise ModelError(f"{name} is a GGUF of type {kind!r} without the imatrix.* keys, expected an importance matrix")
    if chunks.type is not ValueType.UINT32 or chunks.is_array:
        raise ModelError(f"{name}: {CHUNK_COUNT} is no 32-bit unsigned integer")
    if datasets.type is not ValueType.STRING or not datasets.is_array:
        raise ModelError(f"{name}: {DATASETS} is no list of strings")
    names, count = datasets.plain(), chunks.plain()
    assert isinstance(names, list)
    assert isinstance(count, int)
    return Imatrix(name, _gguf_entries(name, file), tuple(str(item) for item in names), count)


def _gguf_entries(name: str, file: GGUFFile) -> dict[str, ImatrixEntry]:
    sums = {t.name.removesuffix(SUMS): t for t in file.tensors if t.name.endswith(SUMS)}
    counts = {t.name.removesuffix(COUNTS): t for t in file.tensors if t.name.endswith(COUNTS)}
    if not sums:
        raise ModelError(f"{name} has no tensor ending in {SUMS}, expected one for each weight")
    if alone := sorted(sums.keys() ^ counts.keys()):
        raise ModelError(f"{name}: {alone[0]} has only one of {SUMS} and {COUNTS}, expected both")
    source = FileBytes(file.path, file.file_size)
    return {weight: _gguf_entry(name, source, sums[weight], counts[weight]) for weight in sorted(sums)}


def _gguf_entry(name: str, source: FileBytes, sums: TensorInfo, counts: TensorInfo) -> ImatrixEntry:
    for tensor in (sums, counts):
        if tensor.type is not GGMLType.F32:
            raise ModelError(f"{name}: {tensor.name} is of type {tensor.type.name}, expected F32")
    if sums.n_elements % counts.n_elements:
        raise ModelError(f"{name}: {sums.name} has {sums.n_elements} values, no multiple of {counts.n_elements} counts")
    found = source.read(counts.offset, counts.nbytes).view("<f4").astype(np.float64)
    if not np.isfinite(found).all():
        raise ModelError(f"{name}: {counts.name} has values that are not finite; compute it again")
    whole = np.floor(found + 0.5).astype(np.float32)  # llama.cpp keeps counts as integers
    return ImatrixEntry(source, sums.offset, sums.n_elements, whole)


class _Legacy:
    """A cursor over a .dat file that never reads, or allocates, past its end."""

    def __init__(self, name: str, path: Path, size: int, file: BinaryIO) -> None:
        self.name, self.source, self.file, self.at = name, FileBytes(path, size), file, 0

    def read(self) -> Imatrix:
        n_entries = self.integer("the number of entries")
        if not 1 <= n_entries <= MAX_ENTRIES:
            raise self.fail(f"it claims {n_entries} entries, 1 to {MAX_ENTRIES} expected")
        entries = dict(self.entry(index) for index in range(n_entries))
        left = self.source.size - self.at
        chunk_count = self.integer("the chunk count") if left >= 4 else 0  # older files end here
        length = self.integer("the data set's length") if left >= 8 else 0
        dataset = self.string(length, "the data set's name") if 0 < length <= left - 8 else ""
        return Imatrix(self.name, entries, (dataset,) if dataset else (), chunk_count)

    def entry(self, index: int) -> tuple[str, ImatrixEntry]:
        what = f"entry {index}"
        weight = self.string(self.integer(f"the name's length of {what}"), f"the name of {what}")
        n_calls, n_values = self.integer(f"the calls of {what}"), self.integer(f"the size of {what}")
        if n_values < 1:
            raise self.fail(f"{weight} claims {n_values} values, at least 1 expected")
        start = self.advance(4 * n_values, f"the values of {weight}")
        self.file.seek(self.at)
        return weight, ImatrixEntry(self.source, start, n_values, np.array([max(n_calls, 1)], dtype=np.float32))

    def fail(self, message: str) -> ModelError:
        return ModelError(f"{self.name} is no sound importance matrix (neither GGUF nor .dat): {message}")

    def advance(self, count: int, what: str) -> int:
        start, left = self.at, self.source.size - self.at
        if not 0 <= count <= left:
            raise self.fail(f"{what} would take {count} bytes at byte {start}, {left} are left")
        self.at += count
        return start

    def take(self, count: int, what: str) -> bytes:
        self.advance(count, what)
        data = self.file.read(count)
        if len(data) != count:
            raise self.fail(f"{what} could not be read in full: the file changed while it was being read")
        return data

    def integer(self, what: str) -> int:
        value: int = struct.unpack("<i", self.take(4, what))[0]
        return value

    def string(self, length: int, what: str) -> str:
        return self.take(length, what).split(b"\0")[0].decode("utf-8", "surrogateescape")
