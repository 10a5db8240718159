"""Checkpoints in 4-bit floats that are damaged or contradictory: each refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nemotron_gguf.convert import ConvertError, open_checkpoint
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.tests.hostile.test_hostile_fp8 import saved
from nemotron_gguf.tests.nvfp4_checkpoint import compressed, modelopt

E4M3 = torch.float8_e4m3fn
Tensors = dict[str, torch.Tensor]
SOUND: Tensors = {
    "x.weight": torch.zeros(40, 64, dtype=torch.uint8),
    "x.weight_scale": torch.ones(40, 8).to(E4M3),
    "x.weight_scale_2": torch.tensor(0.5),
}
PACKED: Tensors = {
    "x.weight_packed": torch.zeros(40, 64, dtype=torch.uint8),
    "x.weight_scale": SOUND["x.weight_scale"],
    "x.weight_global_scale": torch.tensor([2.0]),
}


def without(name: str, **more: torch.Tensor) -> Tensors:
    """The sound tensors less one, and others: `x_2` for `x.weight_scale_2`."""
    return {key: value for key, value in SOUND.items() if key != name} | {
        f"x.weight{key.removeprefix('x')}": value for key, value in more.items()
    }


def group(**weights: Any) -> dict[str, Any]:
    config = compressed()
    config["config_groups"]["group_0"]["weights"] |= weights
    return config


REFUSED: dict[str, tuple[Tensors, object, str]] = {
    "no block scales": (without("x.weight_scale"), modelopt(), "needs x.weight_scale of dtype F8_E4M3, found nothing"),
    "block scales of MXFP4": (
        without("", x_scale=torch.ones(40, 4, dtype=torch.uint8)), modelopt(), "found one of dtype U8"
    ),
    "no scale of all": (without("x.weight_scale_2"), modelopt(), "lacks x.weight_scale_2, which scales x"),
    "scales of all, many": (without("", x_scale_2=torch.ones(40)), modelopt(), r"shape \[40\], expected one number"),
    "a scale of whole numbers": (without("", x_scale_2=torch.tensor(1)), modelopt(), "dtype I64"),
    "a scale NaN": (without("", x_scale_2=torch.tensor(float("nan"))), modelopt(), "is nan, expected a positive"),
    "a scale infinite": (without("", x_scale_2=torch.tensor(float("inf"))), modelopt(), "is inf, expected"),
    "a scale zero": (without("", x_scale_2=torch.tensor(0.0)), modelopt(), "is 0, expected a positive"),
    "a scale negative": (without("", x_scale_2=torch.tensor(-1.0)), modelopt(), "is -1, expected a positive"),
    "a reciprocal of nothing": (
        PACKED | {"x.weight_global_scale": torch.tensor([0.0])}, compressed(), "x.weight_global_scale is 0"
    ),
    "a reciprocal of the smallest": (
        PACKED | {"x.weight_global_scale": torch.tensor([1e-42])}, compressed(), "expected a positive"
    ),
    "an input scale NaN": (
        {**SOUND, "x.input_scale": torch.tensor(float("nan"))}, modelopt(), "the scale x.input_scale is nan"
    ),
    "too few block scales": (without("", x_scale=torch.ones(40, 7).to(E4M3)), modelopt(), r"shape \[40, 7\], expected"),
    "block scales of 32": (without("", x_scale=torch.ones(40, 4).to(E4M3)), modelopt(), r"shape \[40, 4\], expected"),
    "too few rows": (without("", x_scale=torch.ones(39, 8).to(E4M3)), modelopt(), r"shape \[39, 8\], expected"),
    "a stack": (
        without("", x=torch.zeros(2, 20, 64, dtype=torch.uint8), x_scale=torch.ones(2, 20, 8).to(E4M3)), modelopt(),
        r"shape \[2, 20, 8\], expected",
    ),
    "no rows": (
        without("", x=torch.zeros(0, 64, dtype=torch.uint8), x_scale=torch.ones(0, 8).to(E4M3)), modelopt(),
        r"expected \[rows, columns / 16\]",
    ),
    "both names": (SOUND | PACKED, compressed(), "x has both"),
    "blocks of 32 by the config": (PACKED, group(group_size=32), "of 4 bits, type 'float', groups of 32"),
    "whole numbers by the config": (PACKED, group(type="int"), "of 4 bits, type 'int', groups of 16"),
    "8 bits by the config": (PACKED, group(num_bits=8), "nvfp4-pack-quantized of 8 bits"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_when_it_is_opened(name: str, tmp_path: Path) -> None:
    tensors, settings, expected = REFUSED[name]
    with pytest.raises(ConvertError, match=expected) as caught:
        open_checkpoint(saved(tmp_path, tensors, settings))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("tensors", "settings"), [(SOUND, modelopt()), (PACKED, compressed())])
def test_what_is_sound_is_opened(tensors: Tensors, settings: object, tmp_path: Path) -> None:
    with open_checkpoint(saved(tmp_path, tensors, settings)) as checkpoint:
        (found,) = checkpoint.tensors.values()
        assert found.shape == (40, 128)
        assert found.packed is not None
        assert found.packed.scale == 0.5


def test_bytes_that_nobody_told_of_are_refused(tmp_path: Path) -> None:
    with (
        open_checkpoint(saved(tmp_path, {"x.weight": SOUND["x.weight"]}, None)) as checkpoint,
        pytest.raises(ConvertError, match="dtype U8, expected BF16"),
    ):
        checkpoint.precision()


@pytest.mark.parametrize("code", [0x7F, 0xFF, 0xB8, 0x81])
def test_a_block_scale_that_is_negative_or_no_number(code: int, tmp_path: Path) -> None:
    scales = torch.full((40, 8), 0x38, dtype=torch.uint8)
    scales[17, 3] = code
    with open_checkpoint(saved(tmp_path, without("", x_scale=scales.view(E4M3)), modelopt())) as checkpoint:
        tensor = checkpoint.tensors["x.weight"]
        for rows in (tensor.blocks(), tensor.rows(128, GGMLType.BF16)):
            rows.read(0, 17)
            with pytest.raises(ConvertError, match=r"x\.weight_scale has a scale that is negative or no number"):
                rows.read(10, 40)


def test_a_block_scale_of_minus_zero_is_zero(tmp_path: Path) -> None:
    scales = torch.full((40, 8), 0x80, dtype=torch.uint8).view(E4M3)
    with open_checkpoint(saved(tmp_path, without("", x_scale=scales), modelopt())) as checkpoint:
        assert not checkpoint.tensors["x.weight"].blocks().read(0, 40).any()
