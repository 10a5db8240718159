"""Importance matrices, read and checked: as llama.cpp's tools write them, and as ours does.

Two formats are read: GGUF (tensors `<weight>.in_sum2` and `<weight>.counts`, a count for each expert of a stacked
tensor) and the older .dat. Values are read on demand, so that the matrix of a model with hundreds of experts a layer
does not sit in memory.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.file_bytes import FileBytes
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo, read_gguf
from nemotron_gguf.models.gguf_values import ValueType
from nemotron_gguf.models.gguf_writer import MAGIC
from nemotron_gguf.models.imatrix.legacy import read_legacy
from nemotron_gguf.models.imatrix.matrix import (
    CHUNK_COUNT,
    CHUNK_SIZE,
    COUNTS,
    DATASETS,
    FILLED,
    SUMS,
    Imatrix,
    ImatrixEntry,
    spans,
)

LARGEST = 1e30
"""No activation squared comes near; beyond it ggml's searches for IQ2 and IQ3 overflow, and end the process."""


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
            imatrix = _read_gguf(str(path), read_gguf(file)) if is_gguf else read_legacy(str(path), file, size, opened)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    for name, entry in imatrix.entries.items():
        _check(str(path), name, entry)
    return imatrix


def _check(path: str, name: str, entry: ImatrixEntry) -> None:
    """Refuse what no mean square can be. Raises ModelError."""
    for span in spans(entry.n_values):
        found = entry.read(*span)
        if not np.isfinite(found).all():
            raise ModelError(f"{path}: the importance of {name} has values that are not finite; compute it again")
        if found.min() < 0 or found.max() > LARGEST:
            wrong = found.min() if found.min() < 0 else found.max()
            raise ModelError(
                f"{path}: the importance of {name} has the value {wrong:.3g}, expected mean squares from 0 to"
                f" {LARGEST:g}; compute it again"
            )


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
    size, filled = file.get(CHUNK_SIZE), _filled(file.get(FILLED))
    entries = _gguf_entries(name, file)
    return Imatrix(
        name, entries, tuple(str(item) for item in names), count, size if isinstance(size, int) else 0, filled
    )


def _filled(listed: object) -> dict[str, tuple[int, ...]]:
    """Which experts were filled, from our key; nothing where it is not there, or is not ours."""
    found = {}
    for item in listed if isinstance(listed, list) else ():
        name, _, numbers = str(item).rpartition(":")
        if name and all(number.isascii() and number.isdecimal() and len(number) < 7 for number in numbers.split(",")):
            found[name] = tuple(int(number) for number in numbers.split(","))
    return found


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
    if not counts.n_elements or not sums.n_elements or sums.n_elements % counts.n_elements:
        raise ModelError(f"{name}: {sums.name} has {sums.n_elements} values, no multiple of {counts.n_elements} counts")
    found = source.read(counts.offset, counts.nbytes).view("<f4").astype(np.float64)
    if not np.isfinite(found).all():
        raise ModelError(f"{name}: {counts.name} has values that are not finite; compute it again")
    whole = np.floor(found + 0.5).astype(np.float32)  # llama.cpp keeps counts as integers
    return ImatrixEntry(source, sums.offset, sums.n_elements, whole)
