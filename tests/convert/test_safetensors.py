from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.byte_source import LocalFile
from nemotron_gguf.convert.source.rows import InterleavedHeads
from nemotron_gguf.convert.source.safetensors import MAX_HEADER, Shard, TensorRows
from nemotron_gguf.models.ggml import GGMLType


@pytest.fixture
def values() -> torch.Tensor:
    return torch.randn((64, 24), generator=torch.Generator().manual_seed(0)).bfloat16()


@pytest.fixture
def shard(values: torch.Tensor, tmp_path: Path) -> Shard:
    path = tmp_path / "a.safetensors"
    save_file({"odd": torch.zeros(3, dtype=torch.uint8), "x": values, "none": torch.zeros(0)}, path, {"format": "pt"})
    return Shard(LocalFile(path))


@pytest.fixture
def rows(shard: Shard) -> TensorRows:
    return TensorRows(shard, shard.entries["x"], GGMLType.BF16, 64, 24)


def raw(values: torch.Tensor) -> bytes:
    return values.view(torch.uint16).numpy().tobytes()


def test_rows_are_the_tensor_s(rows: TensorRows, values: torch.Tensor) -> None:
    assert rows.read(0, 64).tobytes() == raw(values)
    assert rows.read(5, 9).tobytes() == raw(values[5:9])
    assert rows.read(5, 9).shape == (4, 48)


def test_many_threads_read_at_once(rows: TensorRows, values: torch.Tensor) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: rows.read(n % 64, n % 64 + 1).tobytes(), range(2000)))
    assert found == [raw(values[n % 64 : n % 64 + 1]) for n in range(2000)]


def test_without_positioned_reads(rows: TensorRows, values: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    test_many_threads_read_at_once(rows, values)


def test_a_closed_shard_reads_nothing_else(shard: Shard, rows: TensorRows) -> None:
    shard.close()
    with pytest.raises(ConvertError, match=r"reading .* failed"):
        rows.read(0, 1)


def test_the_longest_header_that_is_claimed_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes((MAX_HEADER).to_bytes(8, "little") + b"{}")
    with pytest.raises(ConvertError, match="the file has 2 left"):
        Shard(LocalFile(path))


@pytest.mark.parametrize("span", [(0, 64), (0, 1), (7, 8), (5, 41), (31, 33)])
def test_interleaved_heads(rows: TensorRows, values: torch.Tensor, span: tuple[int, int]) -> None:
    expected = values.reshape(4, 2, 8, 24).swapaxes(1, 2).reshape(64, 24)
    found = InterleavedHeads(rows, 16).read(*span)
    assert found.tobytes() == raw(expected[span[0] : span[1]])
    assert np.array_equal(found, InterleavedHeads(rows, 16).read(0, 64)[span[0] : span[1]])
