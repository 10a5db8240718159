"""Importance matrices, written in the layout of llama-imatrix, tensor by tensor; complete or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, string, u32
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.imatrix.matrix import CHUNK_COUNT, CHUNK_SIZE, COUNTS, DATASETS, FILLED, SUMS, Sums

Data: TypeAlias = Callable[[], npt.NDArray[np.generic]]
Tensor: TypeAlias = tuple[str, tuple[int, ...], GGMLType, Data]


def write_imatrix(
    path: Path,
    entries: Mapping[str, Sums],
    *,
    datasets: Sequence[str],
    chunk_count: int,
    chunk_size: int,
    filled: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Write a matrix as llama-imatrix does (tools/imatrix/imatrix.cpp, `save_imatrix`), the same bytes for the same
    numbers; with `filled`, a key of ours names those experts. Replaces `path` once it is complete.

    Raises ModelError where the file cannot be written, or a sum is not finite.
    """
    metadata = {
        "general.type": string("imatrix"),
        DATASETS: array(ValueType.STRING, list(datasets)),
        CHUNK_COUNT: u32(chunk_count),
        CHUNK_SIZE: u32(chunk_size),
    }
    if filled:
        listed = [f"{name}:{','.join(map(str, parts))}" for name, parts in sorted(filled.items())]
        metadata[FILLED] = array(ValueType.STRING, listed)
    write_tensors(path, metadata, [tensor for name in sorted(entries) for tensor in _pair(name, entries[name])])


def _pair(name: str, sums: Sums) -> Iterator[Tensor]:
    """An entry's two tensors; ggml does not write dimensions of one at the end of a shape."""
    n_parts = len(sums.counts)
    leading = (n_parts,) if n_parts > 1 else ()

    def values() -> npt.NDArray[np.generic]:
        with np.errstate(over="ignore"):
            found = sums.load().astype("<f4")
        if not np.isfinite(found).all():
            raise ModelError(
                f"the activations that {name} sees are not finite; the model, or the device that ran it, is broken"
            )
        return found

    yield name + SUMS, (*leading, sums.n_per_part), GGMLType.F32, values
    yield name + COUNTS, (*leading, 1), GGMLType.F32, lambda: sums.counts.astype("<f4")


def write_tensors(path: Path, metadata: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    """Write a GGUF file tensor by tensor under another name, flush it to the disk, and give it its name.

    Raises ModelError where that cannot be done; nothing is left behind then. Where the process was killed, see
    `remove_leftovers`.
    """
    header = encode_header(metadata, [tensor[:3] for tensor in tensors])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(header.data)
            for offset, (name, shape, _, data) in zip(header.offsets, tensors, strict=True):
                file.write(bytes(offset - file.tell()))
                values = data()
                assert values.size == int(np.prod(shape)), (name, shape, values.shape)
                file.write(np.ascontiguousarray(values).data)
            file.write(bytes(header.file_size - file.tell()))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; for whoever holds the lock on the output."""
    with contextlib.suppress(OSError):
        for entry in path.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+\.tmp", entry.name):
                entry.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """So that the new name survives a power cut; systems that cannot open a folder have no need to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
