"""Rows of 8-bit floats against torch, with scales of every layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from nemotron_gguf.convert import open_checkpoint
from nemotron_gguf.convert.source.fp8 import code_values
from nemotron_gguf.convert.source.fp8_scales import read_single
from nemotron_gguf.convert.source.tensor import Tensor
from nemotron_gguf.models.ggml import GGMLType

if TYPE_CHECKING:
    from nemotron_gguf.tests.hub_server import Hub

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
DTYPES = {"F8_E4M3": E4M3, "F8_E5M2": E5M2}
PLAIN = {GGMLType.F32: torch.float32, GGMLType.F16: torch.float16, GGMLType.BF16: torch.bfloat16}

MODELOPT = {"quant_method": "modelopt", "quant_algo": "FP8"}
FINE = {"quant_method": "fp8", "weight_block_size": [4, 16]}


def compressed(**weights: Any) -> dict[str, Any]:
    group = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel", **weights}}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": group}}


def saved(
    folder: Path, tensors: Mapping[str, torch.Tensor], settings: object = MODELOPT, exported: object = None
) -> Path:
    """A checkpoint as far as opening goes."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    config = {} if settings is None else {"quantization_config": settings}
    folder.joinpath("config.json").write_text(json.dumps(config), encoding="utf-8")
    if exported is not None:
        folder.joinpath("hf_quant_config.json").write_text(json.dumps(exported), encoding="utf-8")
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def codes(*shape: int, dtype: torch.dtype = E4M3, seed: int = 0) -> torch.Tensor:
    """Every finite code, in a random order."""
    drawn = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    finite = 0x7E if dtype is E4M3 else 0x7B
    return torch.where((drawn & 0x7F) > finite, finite, drawn).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_code_has_torchs_value(dtype: str) -> None:
    expected = torch.arange(256, dtype=torch.uint8).view(DTYPES[dtype]).float()
    expected[expected.isinf()] = torch.nan
    assert np.array_equal(code_values(dtype), expected.numpy(), equal_nan=True)
    assert np.signbit(code_values(dtype)[0x80])


SCALES: dict[str, tuple[tuple[int, ...], tuple[int, ...], object]] = {
    # weights' shape, scale's shape, config
    "one": ((40, 96), (), MODELOPT),
    "one in a list": ((40, 96), (1,), MODELOPT),
    "one in two lists": ((40, 96), (1, 1), MODELOPT),
    "one for a vector": ((40,), (), MODELOPT),
    "one for a stack": ((3, 20, 96), (1, 1, 1), MODELOPT),
    "rows": ((40, 96), (40,), MODELOPT),
    "rows as a column": ((40, 96), (40, 1), MODELOPT),
    "rows of a square": ((96, 96), (96,), MODELOPT),
    "rows wider than a piece": ((3, 70_000), (3, 1), MODELOPT),
    "matrices of a stack": ((3, 20, 96), (3,), MODELOPT),
    "matrices of a stack, shaped": ((3, 20, 96), (3, 1, 1), MODELOPT),
    "rows of a stack": ((3, 20, 96), (3, 20, 1), MODELOPT),
    "blocks": ((40, 96), (10, 6), FINE),
    "blocks cut off": ((42, 100), (11, 7), FINE),
    "blocks of a stack, cut off": ((3, 18, 100), (3, 5, 7), FINE),
    "blocks larger than the matrix": ((3, 10), (1, 1), FINE),
    "one row of blocks": ((4, 96), (1, 6), FINE),
}


def torch_product(weight: torch.Tensor, scale: torch.Tensor, settings: Any) -> torch.Tensor:
    """`weight.float() * scale`, the scale spread over its block."""
    scale = scale.float()
    if scale.numel() > 1 and "weight_block_size" in settings:
        for axis, size in zip((-2, -1), settings["weight_block_size"], strict=True):
            scale = scale.repeat_interleave(size, axis)
        scale = scale[..., : weight.shape[-2], : weight.shape[-1]]
    elif scale.numel() == 1:
        scale = scale.reshape(())
    while 0 < scale.dim() < weight.dim():
        scale = scale.unsqueeze(-1)
    return weight.float() * scale


@pytest.mark.parametrize("wanted", PLAIN)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SCALES)
def test_rows_are_torchs_product_wherever_they_are_cut(
    name: str, stored: torch.dtype, wanted: GGMLType, tmp_path: Path
) -> None:
    shape, scale_shape, settings = SCALES[name]
    weight = codes(*shape)
    scale = (torch.rand(scale_shape, generator=torch.Generator().manual_seed(1)) + 0.1).to(stored)
    saved(tmp_path, {"x.weight": weight, "x.weight_scale": scale}, settings)
    expected = torch_product(weight, scale, settings).to(PLAIN[wanted])
    bits = expected.reshape(-1, shape[-1]).contiguous().view(torch.uint8).numpy()
    with open_checkpoint(tmp_path) as checkpoint:
        rows = checkpoint.tensors["x.weight"].rows(shape[-1], wanted)
        assert (rows.type, rows.n_rows, rows.n_per_row) == (wanted, *expected.reshape(-1, shape[-1]).shape)
        assert np.array_equal(rows.read(0, rows.n_rows), bits)
        for first, last in ((0, 1), (rows.n_rows - 1, rows.n_rows), (rows.n_rows // 3, rows.n_rows // 2 + 1)):
            assert np.array_equal(rows.read(first, last), bits[first:last])


def test_a_vector_may_be_seen_in_other_rows(tmp_path: Path) -> None:
    weight = codes(96)
    saved(tmp_path, {"x.weight": weight, "x.weight_scale": torch.tensor(0.5)})
    with open_checkpoint(tmp_path) as checkpoint:
        rows = checkpoint.tensors["x.weight"].rows(24, GGMLType.F32)
        assert np.array_equal(rows.read(1, 3).view(np.float32), (weight.float() / 2).reshape(4, 24)[1:3].numpy())


def test_several_threads_read_at_once(tmp_path: Path) -> None:
    weight, scale = codes(512, 1024), torch.rand(512) + 0.1
    saved(tmp_path, {"x.weight": weight, "x.weight_scale": scale})
    expected = (weight.float() * scale[:, None]).bfloat16().view(torch.uint8).numpy()
    with open_checkpoint(tmp_path) as checkpoint, ThreadPoolExecutor(8) as pool:
        rows = checkpoint.tensors["x.weight"].rows(1024, GGMLType.BF16)
        spans = [(first, first + 37) for first in range(0, 475, 5)]
        for (first, last), read in zip(spans, pool.map(lambda span: rows.read(*span), spans), strict=True):
            assert np.array_equal(read, expected[first:last])


def test_only_a_piece_is_widened_at_a_time(tmp_path: Path) -> None:
    import tracemalloc

    saved(tmp_path, {"x.weight": codes(4096, 1024), "x.weight_scale": torch.tensor(0.5), "y.weight": codes(4096, 1024),
                     "y.weight_scale": torch.rand(4096) + 0.1})  # fmt: skip
    with open_checkpoint(tmp_path) as checkpoint:
        for name in ("x.weight", "y.weight"):
            rows = checkpoint.tensors[name].rows(1024, GGMLType.BF16)
            tracemalloc.start()
            read = rows.read(0, 4096)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 4096 * 1024 + read.nbytes + (4 << 20), name  # the codes, the rows, and a few pieces


def test_single_scales_of_a_shard_are_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for index in range(300):
        tensors[f"{index}.weight"] = codes(4, 96, seed=index)
        tensors[f"{index}.weight_scale"] = torch.tensor(index + 1.0)
        tensors[f"{index}.input_scale"] = torch.tensor(0.25)
    saved(tmp_path, tensors)
    checkpoint = open_checkpoint(tmp_path)
    assert [checkpoint.tensors[f"{index}.weight"].scale for index in range(300)] == [
        index + 1.0 for index in range(300)
    ]
    assert checkpoint.tensors.keys() == {f"{index}.weight" for index in range(300)}
    reads: list[tuple[int, int]] = []
    shard = checkpoint.shards[0]
    whole = shard.read

    def counted(offset: int, size: int) -> bytearray:
        reads.append((offset, size))
        return whole(offset, size)

    monkeypatch.setattr(shard, "read", counted)
    scales = [Tensor(entry, shard) for name, entry in shard.entries.items() if name.endswith("weight_scale")]
    assert len(dict(read_single(scales))) == 300
    assert len(reads) == 1
    assert reads[0][1] < 300 * 8
    reads.clear()
    far = [Tensor(entry, shard) for name, entry in shard.entries.items() if name == "0.weight_scale"]
    assert dict(read_single(far)) == {"0.weight_scale": 1.0}
    assert reads[0][1] == 4


def test_scales_of_the_hub_cost_a_request_or_two(
    hub_here: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_some")
    tensors: dict[str, torch.Tensor] = {}
    for index in range(200):
        tensors |= {f"{index}.weight": codes(64, 96, seed=index), f"{index}.weight_scale": torch.tensor(index + 1.0)}
    folder = saved(tmp_path / "checkpoint", tensors, None, {"quantization": MODELOPT})
    hub_here.files.clear()
    hub_here.files |= {path.name: path.read_bytes() for path in folder.iterdir()}
    with open_checkpoint("someone/Nemotron-Demo", progress=False) as checkpoint:
        assert [checkpoint.tensors[f"{index}.weight"].scale for index in range(200)] == [*range(1, 201)]
        assert len(hub_here.asked("storage", "model.safetensors")) <= 3, "not one for each scale"
        read = checkpoint.tensors["7.weight"].rows(96, GGMLType.F32).read(10, 20).view(np.float32)
    assert np.array_equal(read, tensors["7.weight"].float()[10:20].numpy() * 8)


def test_a_row_scaled_to_nothing_is_a_neuron_pruned_away(tmp_path: Path) -> None:
    weight, scale = codes(40, 96), torch.ones(40)
    scale[7] = 0
    with open_checkpoint(saved(tmp_path, {"x.weight": weight, "x.weight_scale": scale})) as checkpoint:
        values = checkpoint.tensors["x.weight"].rows(96, GGMLType.F32).read(0, 40).view(np.float32)
        assert not values[7].any()
        assert np.array_equal(values[8], weight.float()[8].numpy())


@pytest.mark.parametrize(
    ("settings", "exported"),
    [
        (None, {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}),
        (compressed() | {"format": "dense"}, None),
        ({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"g": {}}}, None),
    ],
)
def test_plain_weights_behind_a_config_of_8_bits_are_plain(settings: object, exported: object, tmp_path: Path) -> None:
    tensors = {"x.weight": torch.zeros(40, 96, dtype=torch.bfloat16), "x.k_scale": torch.tensor(1.0)}
    with open_checkpoint(saved(tmp_path, tensors, settings, exported)) as checkpoint:
        assert {name: tensor.scale for name, tensor in checkpoint.tensors.items()} == {"x.weight": None}
        assert checkpoint.precision() is GGMLType.BF16
