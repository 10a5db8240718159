"""Quantized files against llama.cpp's `llama_model_quantize`: the whole file, header and order, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.quant import FILE_TYPES, QuantError

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.quantizer.conftest import Workshop


@pytest.mark.parametrize("with_imatrix", [False, True], ids=["plain", "imatrix"])
@pytest.mark.parametrize("name", [kind.name for kind in FILE_TYPES])
@pytest.mark.parametrize("model", ["aligned", "unaligned", "dense", "gated", "eight", "odd"])
def test_every_file_type(workshop: Workshop, model: str, name: str, with_imatrix: bool, tmp_path: Path) -> None:
    """The whole file equals llama.cpp's; where llama.cpp refuses, so do we, and leave nothing behind."""
    source, importance = workshop.model(model), workshop.importance(model) if with_imatrix else None
    answer = workshop.llama(source, tmp_path / "llama.gguf", name, importance)
    target = tmp_path / "ours.gguf"
    if answer.code:
        with pytest.raises(QuantError):
            workshop.ours(source, target, name, importance)
        assert not target.exists()
    else:
        workshop.assert_same(workshop.ours(source, target, name, importance), answer.data)
