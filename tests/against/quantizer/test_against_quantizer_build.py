"""One pass from a checkpoint against llama.cpp's quantizer on the converted file: whole files, to the byte."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.convert import Output, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_quantization

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.quantizer.conftest import Workshop
    from nemotron_gguf.tests.conftest import Checkpoints

TYPES = ("Q8_0", "Q4_K_M", "IQ4_NL", "F16", "F32")


def compare(workshop: Workshop, checkpoint: Path, folder: Path) -> None:
    """Convert, and build all types together; llama.cpp quantizes what was converted."""
    plan, converted = plan_conversion(open_checkpoint(str(checkpoint))), folder / "converted.gguf"
    write_files([Output(plan, converted)])
    built = {name: plan_quantization(plan, QuantizeOptions(file_type(name))) for name in TYPES}
    write_files([Output(built[name], folder / f"{name}.gguf") for name in TYPES])
    for name in TYPES:
        answer = workshop.llama(converted, folder / f"llama-{name}.gguf", name)
        workshop.assert_same((folder / f"{name}.gguf").read_bytes(), answer.data)


@pytest.mark.parametrize("kind", ["moe", "moe-bf16", "moe-aligned", "moe-f16", "latent", "mtp", "dense", "dense-bf16"])
def test_build_of_every_kind(workshop: Workshop, checkpoints: Checkpoints, kind: str, tmp_path: Path) -> None:
    """Each kind of checkpoint, five types in one pass, against llama.cpp on the file that convert writes."""
    compare(workshop, checkpoints.get(kind), tmp_path)


def test_build_of_the_demo(workshop: Workshop, tmp_path: Path) -> None:
    """The demo model, trained weights and all."""
    folder = files("nemotron_gguf.models") / "demo" / "checkpoint"
    compare(workshop, Path(str(folder)), tmp_path)
