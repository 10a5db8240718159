"""The binding to ggml, and our tables of its types, against the library that is installed."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import QuantError, ggml_base
from nemotron_gguf.quant.ggml_base import ENCODABLE, NEEDS_IMPORTANCE, can_dequantize, dequantize_rows, quantize_rows

FEW_LEVELS = (GGMLType.TQ1_0, GGMLType.TQ2_0, GGMLType.Q2_0)
BLOCKS = sorted(kind for kind in ENCODABLE if kind.is_quantized)


@pytest.mark.parametrize("kind", list(GGMLType))
def test_geometry(kind: GGMLType) -> None:
    """Weights and bytes of a block, and the name."""
    lib = ggml_base.library()
    lib.ggml_blck_size.restype, lib.ggml_type_size.restype = ctypes.c_int64, ctypes.c_size_t
    lib.ggml_type_name.restype = ctypes.c_char_p
    assert (lib.ggml_blck_size(kind), lib.ggml_type_size(kind)) == (kind.block_size, kind.type_size)
    assert lib.ggml_type_name(kind).decode().upper() == kind.name


@pytest.mark.parametrize("kind", list(GGMLType))
def test_which_types_need_importance(kind: GGMLType) -> None:
    requires = ggml_base.library().ggml_quantize_requires_imatrix
    requires.restype = ctypes.c_bool
    assert requires(kind) is (kind in NEEDS_IMPORTANCE)


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_say_roughly_what_was_put_in(kind: GGMLType) -> None:
    """The error of a round trip halves with every bit; types of a scale and few levels are for weights made so."""
    values = np.random.default_rng(1).standard_normal((3, 512)).astype(np.float32)
    importance = np.ones(512, dtype=np.float32) if kind in NEEDS_IMPORTANCE else None
    back = dequantize_rows(kind, quantize_rows(kind, values, importance), 512)
    error = float(np.linalg.norm(back - values) / np.linalg.norm(values))
    assert error < (0.9 if kind in FEW_LEVELS else 3 * 2**-kind.bits_per_weight + 0.005)


@pytest.mark.parametrize("kind", [GGMLType.Q4_K, GGMLType.IQ4_NL, GGMLType.Q5_0])
def test_importance_moves_the_error(kind: GGMLType) -> None:
    """Columns that weigh more come out nearer."""
    values = np.random.default_rng(2).standard_normal((64, 256)).astype(np.float32)
    importance = np.where(np.arange(256) % 4 == 0, 100, 1).astype(np.float32)
    plain = dequantize_rows(kind, quantize_rows(kind, values, None), 256) - values
    weighed = dequantize_rows(kind, quantize_rows(kind, values, importance), 256) - values
    assert np.square(weighed[:, ::4]).sum() < 0.9 * np.square(plain[:, ::4]).sum()


def test_types_without_a_decoder() -> None:
    assert [kind.name for kind in GGMLType if kind.is_quantized and not can_dequantize(kind)] == ["Q8_1", "Q8_K"]


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without the library is one error that names what was looked for."""
    ggml_base.library.cache_clear()
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    with pytest.raises(QuantError, match="libggml-base"):
        ggml_base.library()
    (tmp_path / "libggml-base.so").write_bytes(b"no library")
    with pytest.raises(QuantError, match="cannot be loaded"):
        ggml_base.library()
    ggml_base.library.cache_clear()
