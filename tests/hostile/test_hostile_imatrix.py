"""Importance matrices that are damaged or meant to harm: one error of one line, quickly, whatever they claim."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, array, string, u32
from nemotron_gguf.models.gguf_values import ValueType as V
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.imatrix import read_imatrix

F32 = GGMLType.F32
KEYS = {
    "general.type": string("imatrix"),
    "imatrix.datasets": array(V.STRING, ["talk.txt"]),
    "imatrix.chunk_count": u32(3),
    "imatrix.chunk_size": u32(512),
}
TENSORS: dict[str, Any] = {"a.weight.in_sum2": np.full((2, 4), 3.0), "a.weight.counts": np.ones((2, 1))}


def gguf_bytes(keys: dict[str, Value], tensors: dict[str, Any], kind: GGMLType = F32) -> bytes:
    header = encode_header(keys, [(name, values.shape, kind) for name, values in tensors.items()])
    data = bytearray(header.file_size)
    data[: len(header.data)] = header.data
    for offset, values in zip(header.offsets, tensors.values(), strict=True):
        raw = values.astype({F32: "<f4", GGMLType.F16: "<f2"}[kind]).tobytes()
        data[offset : offset + len(raw)] = raw
    return bytes(data)


def without(key: str) -> dict[str, Value]:
    return {name: value for name, value in KEYS.items() if name != key}


def changed(name: str, values: Any) -> dict[str, Any]:
    return {**TENSORS, name: np.asarray(values, dtype=np.float64)}


def legacy(*numbers: int, data: bytes = b"") -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers) + data


ENTRY = struct.pack("<i", 1) + b"a" + struct.pack("<ii", 1, 2) + struct.pack("<ff", 1, 2)
CASES = {
    "empty file": b"",
    "two bytes": b"\1\0",
    "text": b"This is no importance matrix at all.\n" * 4,
    "model": gguf_bytes({"general.type": string("model")}, TENSORS),
    "no chunk count": gguf_bytes(without("imatrix.chunk_count"), TENSORS),
    "no chunk size": gguf_bytes(without("imatrix.chunk_size"), TENSORS),
    "no datasets": gguf_bytes(without("imatrix.datasets"), TENSORS),
    "chunk count is text": gguf_bytes({**KEYS, "imatrix.chunk_count": string("3")}, TENSORS),
    "chunk count is signed": gguf_bytes({**KEYS, "imatrix.chunk_count": Value(V.INT32, -3)}, TENSORS),
    "chunk count is a list": gguf_bytes({**KEYS, "imatrix.chunk_count": array(V.UINT32, [3])}, TENSORS),
    "datasets is text": gguf_bytes({**KEYS, "imatrix.datasets": string("talk.txt")}, TENSORS),
    "datasets are numbers": gguf_bytes({**KEYS, "imatrix.datasets": array(V.UINT32, [3])}, TENSORS),
    "no tensors": gguf_bytes(KEYS, {}),
    "other tensors": gguf_bytes(KEYS, {"a.weight": np.ones((2, 4))}),
    "sums without counts": gguf_bytes(KEYS, {"a.weight.in_sum2": np.ones((2, 4))}),
    "counts without sums": gguf_bytes(KEYS, {**TENSORS, "b.weight.counts": np.ones((1, 1))}),
    "half precision": gguf_bytes(KEYS, TENSORS, GGMLType.F16),
    "three counts for eight sums": gguf_bytes(KEYS, changed("a.weight.counts", np.ones((3, 1)))),
    "no counts": gguf_bytes(KEYS, changed("a.weight.counts", np.ones((0, 1)))),
    "no sums": gguf_bytes(KEYS, changed("a.weight.in_sum2", np.ones((0, 4)))),
    "more counts than sums": gguf_bytes(KEYS, changed("a.weight.counts", np.ones((16, 1)))),
    "sum is NaN": gguf_bytes(KEYS, changed("a.weight.in_sum2", [[1, 2, 3, np.nan], [1, 2, 3, 4]])),
    "sum is infinite": gguf_bytes(KEYS, changed("a.weight.in_sum2", [[1, 2, 3, 4], [1, -np.inf, 3, 4]])),
    "count is NaN": gguf_bytes(KEYS, changed("a.weight.counts", [[1], [np.nan]])),
    "count is infinite": gguf_bytes(KEYS, changed("a.weight.counts", [[np.inf], [1]])),
    "no entries": legacy(0),
    "negative entries": legacy(-1),
    "two thousand million entries": legacy(2**31 - 1, data=ENTRY * 3),
    "more entries than there are": legacy(3, data=ENTRY * 2),
    "name of two thousand million bytes": legacy(1, 2**31 - 1, data=b"a" * 64),
    "name of negative length": legacy(1, -5, data=b"a" * 64),
    "two thousand million values": legacy(1, 1, data=b"a" + struct.pack("<ii", 1, 2**31 - 1) + bytes(64)),
    "no values": legacy(1, 1, data=b"a" + struct.pack("<ii", 1, 0) + bytes(64)),
    "negative values": legacy(1, 1, data=b"a" + struct.pack("<ii", 1, -4) + bytes(64)),
    "value is NaN": legacy(1, 1, data=b"a" + struct.pack("<ii", 1, 1) + struct.pack("<f", np.nan)),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.imatrix"
    path.write_bytes(CASES[case])
    with pytest.raises(ModelError, match=r"bad\.imatrix") as caught:
        read_imatrix(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [gguf_bytes(KEYS, TENSORS), legacy(2, data=ENTRY * 2)], ids=["gguf", "dat"])
def test_cut_anywhere(data: bytes, tmp_path: Path) -> None:
    """Whole it is read; cut at any byte it is refused (but for the padding at the end)."""
    path = tmp_path / "cut.imatrix"
    path.write_bytes(data)
    whole = read_imatrix(path)
    assert whole.entries
    last = max(entry.offset + 4 * entry.n_values for entry in whole.entries.values())
    for length in range(last if data[:4] != b"GGUF" else last - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            read_imatrix(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ModelError, match="cannot read"):
            read_imatrix(path)
