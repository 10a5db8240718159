"""`--type auto`: what a checkpoint has stays what it is; and what quantizing 4-bit floats again takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from nemotron_gguf.convert import FilePlan, Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import (
    AUTO,
    QuantError,
    QuantizeOptions,
    file_type,
    parse_tensor_type,
    plan_of_file,
    plan_quantization,
)
from nemotron_gguf.tests.against.test_against_transformers import kl, llama_logits
from nemotron_gguf.tests.nvfp4_checkpoint import Style, make, modelopt, twin

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

NVFP4 = Style(modelopt())
OPTIONS = QuantizeOptions(type=AUTO)


@pytest.fixture(scope="module")
def folders(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint in 4 bits, and its plain twin."""
    at = tmp_path_factory.mktemp("kept")
    source = checkpoints.make(at / "plain", hidden=128, width=64, shared=192, dtype=torch.bfloat16)
    packed, exact = make(source, at / "packed", NVFP4)
    return packed, twin(source, at / "twin", exact)


@pytest.fixture(scope="module")
def plan(folders: tuple[Path, Path]) -> Iterator[FilePlan]:
    with open_checkpoint(folders[0]) as checkpoint:
        yield plan_conversion(checkpoint)


def write(plan: FilePlan, path: Path) -> Path:
    write_files([Output(plan, path)], WriteOptions(threads=2))
    return path


def test_auto_is_what_convert_writes(plan: FilePlan, tmp_path: Path) -> None:
    assert file_type("auto") is file_type("AUTO") is AUTO
    converted = write(plan, tmp_path / "converted.gguf").read_bytes()
    assert write(plan_quantization(plan, OPTIONS), tmp_path / "kept.gguf").read_bytes() == converted


def test_tensors_that_are_named_get_their_type(plan: FilePlan) -> None:
    named = (parse_tensor_type("token_embd=Q8_0"), parse_tensor_type("norm=Q8_0"))
    kept = plan_quantization(plan, replace(OPTIONS, tensor_types=named, output_tensor_type=GGMLType.Q6_K))
    before, after = ({tensor.name: tensor.type.name for tensor in one.tensors} for one in (plan, kept))
    changed = {name: kind for name, kind in after.items() if kind != before[name]}
    assert changed == {"token_embd.weight": "Q8_0", "output.weight": "Q8_0"}  # of 128 columns, no multiple of 256
    assert any("output.weight becomes Q8_0, not Q6_K" in note for note in kept.notes)
    assert list(after) == list(before)


@pytest.mark.parametrize("options", [{"pad": "all"}, {"pure": True}])
def test_auto_changes_nothing_else(plan: FilePlan, options: dict[str, object]) -> None:
    with pytest.raises(QuantError, match="--type auto keeps"):
        plan_quantization(plan, replace(OPTIONS, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [QuantizeOptions(file_type("Q4_K_M")),
                                     replace(OPTIONS, tensor_types=(parse_tensor_type("ffn=Q8_0"),))])  # fmt: skip
def test_quantizing_twice_must_be_asked_for(plan: FilePlan, options: QuantizeOptions) -> None:
    with pytest.raises(QuantError, match="NVFP4 already, quantizing it again costs quality"):
        plan_quantization(plan, options)


def test_what_is_quantized_twice_keeps_its_scales(plan: FilePlan, folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = QuantizeOptions(file_type("Q8_0"), allow_requantize=True)
    again = write(plan_quantization(plan, options), tmp_path / "again.gguf")
    assert {tensor.type.name for tensor in plan_of_file(again).tensors} == {"Q8_0", "F32"}
    with open_checkpoint(folders[1]) as checkpoint:
        plain = write(plan_conversion(checkpoint, "f32"), tmp_path / "plain.gguf")
    tokens = np.random.default_rng(0).integers(8, 400, 64).tolist()
    assert np.median(kl(llama_logits(plain, tokens), llama_logits(again, tokens))) < 0.01


def test_an_output_with_a_scale_stays(checkpoints: Checkpoints, tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "plain", hidden=128, width=64, dtype=torch.bfloat16)
    packed, _ = make(source, tmp_path / "packed", replace(NVFP4, taken=("lm_head",)))
    with open_checkpoint(packed) as checkpoint:
        output = plan_conversion(checkpoint)
    options = QuantizeOptions(file_type("Q8_0"), allow_requantize=True)
    with pytest.raises(QuantError, match=r"output\.weight is NVFP4 with a scale beside it"):
        plan_quantization(output, options)
    kept = plan_quantization(output, replace(options, leave_output_tensor=True))
    assert next(tensor.type for tensor in kept.tensors if tensor.name == "output.weight") is GGMLType.NVFP4
