"""Importance matrices, read as llama-quantize reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from nemotron_gguf.models.imatrix import read_imatrix

WEIGHT = "blk.0.ffn_up_exps.weight"


def write_gguf(path: Path, tensors: Mapping[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["talk.txt"])
    writer.add_uint32("imatrix.chunk_count", 9)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in tensors.items():
        writer.add_tensor(name, np.asarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_legacy(path: Path, entries: list[tuple[bytes, int, list[float]]], tail: bytes = b"") -> Path:
    parts = [struct.pack("<i", len(entries))]
    for name, n_calls, values in entries:
        parts.append(struct.pack("<i", len(name)) + name + struct.pack("<ii", n_calls, len(values)))
        parts.append(struct.pack(f"<{len(values)}f", *values))
    path.write_bytes(b"".join(parts) + tail)
    return path


def test_each_expert_has_its_count(tmp_path: Path) -> None:
    """Sums are divided by their expert's count; an expert that was never used weighs every column one."""
    sums, counts = [[2, 4, 6], [0, 0, 0], [9, 3, 1]], [[2], [0], [3]]
    imatrix = read_imatrix(write_gguf(tmp_path / "i.gguf", {f"{WEIGHT}.in_sum2": sums, f"{WEIGHT}.counts": counts}))
    entry = imatrix.entries[WEIGHT]
    third = float(np.float32(1) / np.float32(3))
    assert entry.read(0, 9).tolist() == [1, 2, 3, 1, 1, 1, 3, 1, third]
    assert entry.read(2, 7).tolist() == [3, 1, 1, 1, 3]
    assert (imatrix.datasets, imatrix.chunk_count, imatrix.name) == (("talk.txt",), 9, str(tmp_path / "i.gguf"))


@pytest.mark.parametrize(("count", "divisor"), [(2.4, 2), (2.5, 3), (0.4, 0), (-3, 0)])
def test_counts_are_whole(tmp_path: Path, count: float, divisor: int) -> None:
    """llama.cpp rounds them to integers, and takes those that are not positive for an unused expert."""
    tensors = {"a.weight.in_sum2": [[6.0, 12.0]], "a.weight.counts": [[count]]}
    values = read_imatrix(write_gguf(tmp_path / "i.gguf", tensors)).entries["a.weight"].read(0, 2)
    assert values.tolist() == ([1, 1] if divisor == 0 else [6 / divisor, 12 / divisor])


def test_legacy(tmp_path: Path) -> None:
    """Values are divided by the number of calls, where there were any."""
    tail = struct.pack("<ii", 5, 8) + b"talk.txt"
    entries = [(b"a.weight", 4, [4.0, 10.0]), (b"b.weight", 0, [4.0]), (b"c\0d", 1, [1.0])]
    imatrix = read_imatrix(write_legacy(tmp_path / "old.dat", entries, tail))
    found = {name: entry.read(0, entry.n_values).tolist() for name, entry in imatrix.entries.items()}
    assert found == {"a.weight": [1.0, 2.5], "b.weight": [4.0], "c": [1.0]}
    assert (imatrix.datasets, imatrix.chunk_count) == (("talk.txt",), 5)


@pytest.mark.parametrize(
    ("tail", "chunk_count"), [(b"", 0), (b"\1\0", 0), (struct.pack("<i", 7), 7), (struct.pack("<ii", 7, 99) + b"x", 7)]
)
def test_legacy_without_a_full_tail(tmp_path: Path, tail: bytes, chunk_count: int) -> None:
    """Older files end after the entries or the chunk count."""
    imatrix = read_imatrix(write_legacy(tmp_path / "old.dat", [(b"a", 1, [1.0])], tail))
    assert (imatrix.datasets, imatrix.chunk_count) == ((), chunk_count)
