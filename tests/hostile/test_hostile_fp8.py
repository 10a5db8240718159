"""Checkpoints in 8-bit floats that are damaged, contradictory or in fewer bits: each refused in one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from nemotron_gguf.convert import ConvertError, open_checkpoint, plan_conversion
from nemotron_gguf.models.ggml import GGMLType

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2

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


X = {"x.weight": torch.zeros(40, 96).to(E4M3)}


def with_scale(scale: torch.Tensor | Sequence[float] | float, name: str = "x.weight_scale") -> dict[str, torch.Tensor]:
    return {**X, name: scale if isinstance(scale, torch.Tensor) else torch.tensor(scale)}


def rows_scaled(value: float) -> dict[str, torch.Tensor]:
    scale = torch.ones(40)
    scale[7] = value
    return with_scale(scale)


REFUSED: dict[str, tuple[Mapping[str, torch.Tensor], object, object, str]] = {
    # tensors, quantization_config, hf_quant_config.json, what is said
    "no scale": (X, MODELOPT, None, "x.weight is of dtype F8_E4M3 and needs one scale, found none"),
    "two scales": (
        with_scale(1.0) | {"x.weight_scale_inv": torch.tensor(1.0)}, MODELOPT, None,
        "found x.weight_scale and x.weight_scale_inv",
    ),
    "no config": (with_scale(1.0), None, None, "neither config.json's quantization_config nor hf_quant_config.json"),
    "a scale NaN": (with_scale(float("nan")), MODELOPT, None, "the scale x.weight_scale is nan, expected a positive"),
    "a scale infinite": (with_scale(float("inf")), MODELOPT, None, "is inf, expected a positive"),
    "a scale zero": (with_scale(0.0), MODELOPT, None, "is 0, expected a positive"),
    "a scale negative": (with_scale(-1.0), MODELOPT, None, "is -1, expected a positive"),
    "a scale too large": (with_scale(1e36), MODELOPT, None, "is 1e[+]36, expected a positive number up to 7.57e[+]35"),
    "a scale of whole numbers": (with_scale(torch.tensor(1)), MODELOPT, None, "dtype I64, expected F32, F16, BF16"),
    "scales of MXFP8": (
        with_scale(torch.ones(40, 3, dtype=torch.uint8)), MODELOPT, None, "dtype U8, expected F32, F16, BF16"
    ),
    "too few scales": (with_scale(torch.ones(39)), MODELOPT, None, r"shape \[39\], expected one number, \[40\]"),
    "scales of columns": (with_scale(torch.ones(1, 96)), MODELOPT, None, r"shape \[1, 96\], expected one number"),
    "no scales": (with_scale(torch.ones(0)), MODELOPT, None, r"shape \[0\], expected one number"),
    "blocks that nobody told of": (with_scale(torch.ones(10, 6)), MODELOPT, None, r"shape \[10, 6\], expected one"),
    "too few blocks": (with_scale(torch.ones(9, 6)), FINE, None, r"expected \[10, 6\] for blocks of 4 x 16"),
    "many scales for a vector": (
        {"x.weight": torch.zeros(40).to(E4M3), "x.weight_scale": torch.ones(40)}, MODELOPT, None,
        "expected one number for x.weight",
    ),
    "a weight that is empty": (
        {"x.weight": torch.zeros(40, 0).to(E4M3), "x.weight_scale": torch.ones(40)}, MODELOPT, None, "holds nothing"
    ),
    "4 bits in words of 32": (
        {"x.weight": torch.zeros(40, 12, dtype=torch.int32), "x.weight_scale": torch.zeros(40, 6).to(E4M3)},
        MODELOPT, None, "x.weight_scale in 8 bits scales x.weight of dtype I32: such weights are not read",
    ),
    "an 8-bit scale of nothing": (
        {"x.weight_scale": torch.zeros(40, 6).to(E4M3)}, MODELOPT, None, "scales no tensor that is here"
    ),
    # what the config says
    "AWQ": (with_scale(1.0), {"quant_algo": "NVFP4_AWQ"}, None, r"checkpoint \(NVFP4_AWQ\)"),
    "AWQ in the other file": (
        with_scale(1.0), None, {"quantization": {"quant_algo": "NVFP4_AWQ"}},
        r"checkpoint \(NVFP4_AWQ\), which is not read;",
    ),
    "AWQ in one layer": (
        with_scale(1.0),
        {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
            "a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4_AWQ"}}},
        None, r"\(NVFP4_AWQ in 'b'\)",
    ),
    "mixed, nobody knows how": (with_scale(1.0), {"quant_algo": "MIXED_PRECISION"}, None, r"\(MIXED_PRECISION\)"),
    "two algorithms": (
        with_scale(1.0), MODELOPT, {"quantization": {"quant_algo": "FP8_PB_WO"}},
        "contradicts itself: quant_algo is 'FP8' in config.json, 'FP8_PB_WO' in hf_quant_config.json",
    ),
    "INT8": (with_scale(1.0), {"quant_method": "modelopt", "quant_algo": "W8A8_SQ_PER_CHANNEL"}, None, "W8A8_SQ"),
    "an algorithm that is a number": (with_scale(1.0), {"quant_algo": 8}, None, r"checkpoint \(8\)"),
    "another method": (with_scale(1.0), {"quant_method": "gptq"}, None, r"checkpoint \('gptq'\)"),
    "no method at all": (with_scale(1.0), {"bits": 8}, None, r"checkpoint \(quantization_config\)"),
    "a file that says nothing": (with_scale(1.0), None, {"producer": {}}, r"checkpoint \(hf_quant_config.json\)"),
    "a list for a config": (with_scale(1.0), [8], None, r"quantization_config = \[8\], expected an object"),
    "a text for a file": (with_scale(1.0), None, {"quantization": "FP8"}, "'FP8', expected an object"),
    "layers in a list": (with_scale(1.0), MODELOPT | {"quantized_layers": [1]}, None, "expected an object"),
    "a layer in a text": (with_scale(1.0), MODELOPT | {"quantized_layers": {"a": "x"}}, None, "expected an object"),
    "packed by compressed-tensors": (
        with_scale(1.0), compressed() | {"format": "pack-quantized"}, None, "pack-quantized of 8 bits, type 'float'"
    ),
    "whole numbers of compressed-tensors": (
        with_scale(1.0), compressed(type="int") | {"format": "naive-quantized"}, None, "of 8 bits, type 'int'"
    ),
    "groups along a row": (with_scale(1.0), compressed(strategy="group"), None, "the strategy 'group', expected"),
    "asymmetric": (with_scale(1.0), compressed(symmetric=False), None, "the strategy asymmetric"),
    "blocks without a size": (with_scale(1.0), compressed(strategy="block"), None, "block_structure = None"),
    "blocks of nothing": (with_scale(1.0), FINE | {"weight_block_size": [0, 16]}, None, r"= \[0, 16\], expected two"),
    "blocks of one size": (with_scale(1.0), FINE | {"weight_block_size": [16]}, None, "expected two whole numbers"),
    "blocks of truth": (with_scale(1.0), FINE | {"weight_block_size": [True, True]}, None, "expected two"),
    "blocks of texts": (with_scale(1.0), FINE | {"weight_block_size": "4x16"}, None, "expected two whole numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_when_it_is_opened(name: str, tmp_path: Path) -> None:
    tensors, settings, exported, expected = REFUSED[name]
    saved(tmp_path, tensors, settings, exported)
    with pytest.raises(ConvertError, match=expected) as caught:
        open_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("exported", [b"[]", b"{", b"\xff"])
def test_another_file_that_is_no_object(exported: bytes, tmp_path: Path) -> None:
    saved(tmp_path, with_scale(1.0))
    tmp_path.joinpath("hf_quant_config.json").write_bytes(exported)
    with pytest.raises(ConvertError, match=r"hf_quant_config\.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (rows_scaled(float("nan")), "the scale x.weight_scale is nan"),
        (rows_scaled(float("inf")), "is inf"),
        (rows_scaled(-2.0), "is -2, expected a positive"),
        ({"x.weight": torch.full((40, 96), 0x7F, dtype=torch.uint8).view(E4M3), "x.weight_scale": torch.tensor(1.0)},
         r"x.weight has a weight that is no finite number \(F8_E4M3\)"),
        ({"x.weight": torch.full((40, 96), 0xFF, dtype=torch.uint8).view(E4M3), "x.weight_scale": torch.ones(40)},
         r"x.weight has a weight that is no finite number \(F8_E4M3\)"),
        ({"x.weight": torch.full((40, 96), 0xFC, dtype=torch.uint8).view(E5M2), "x.weight_scale": torch.tensor(1.0)},
         r"x.weight has a weight that is no finite number \(F8_E5M2\)"),
    ],
)  # fmt: skip
def test_what_is_refused_when_it_is_read(tensors: Mapping[str, torch.Tensor], expected: str, tmp_path: Path) -> None:
    with open_checkpoint(saved(tmp_path, tensors)) as checkpoint:
        rows = checkpoint.tensors["x.weight"].rows(96, GGMLType.BF16)
        with pytest.raises(ConvertError, match=expected) as caught:
            rows.read(0, 40)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["weight_scale", "weight_scale_inv", "weight_scale_2", "weight_zero_point"])
def test_a_scale_that_nothing_uses_is_left_over(ending: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoints.get("moe"), tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "model.safetensors"
    name = f"backbone.layers.0.mixer.in_proj.{ending}"
    save_file(load_file(file) | {name: torch.tensor(2.0)}, file)
    config = tmp_path / "checkpoint" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": MODELOPT}))
    with open_checkpoint(tmp_path / "checkpoint") as checkpoint:
        with pytest.raises(ConvertError, match=f"has 1 tensors that .*{name.removeprefix('backbone.')}") as caught:
            plan_conversion(checkpoint)
        assert "\n" not in str(caught.value)


def test_other_8_bit_floats_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, with_scale(1.0))
    path = tmp_path / "model.safetensors"
    raw = path.read_bytes()
    size: int = struct.unpack("<Q", raw[:8])[0]
    path.write_bytes(raw[:8] + raw[8 : 8 + size].replace(b'"F8_E4M3"', b'"F8_E8M0"') + raw[8 + size :])
    expected = "tensor x.weight is of dtype F8_E8M0, expected BF16, F16 or F32"
    with open_checkpoint(tmp_path) as checkpoint, pytest.raises(ConvertError, match=expected):
        checkpoint.precision()
