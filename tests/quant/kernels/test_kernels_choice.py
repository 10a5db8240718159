"""Which encoder is taken: kernels where they are, by wish the library's, and the library's without a word else."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from nemotron_gguf.convert.cast import Cast, to_bf16
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import QuantError, kernels
from nemotron_gguf.quant.encode import Quantize
from nemotron_gguf.quant.ggml_base import quantize_rows


def test_where_there_is_no_compiled_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything works, by ggml's own quantizer."""
    monkeypatch.setattr(kernels, "EXTENSION_SUFFIXES", [".not-there"])
    kernels._library.cache_clear()
    kernels.instruction_sets.cache_clear()
    try:
        assert kernels.instruction_sets() == ()
        assert kernels.chosen() == "library"
        assert not kernels.has_kernel(GGMLType.Q8_0, weighted=False)
        assert kernels.encode(GGMLType.Q8_0, np.ones((1, 32), dtype=np.float32), None) is None
        assert quantize_rows(GGMLType.Q8_0, np.ones((1, 32), dtype=np.float32), None).shape == (1, 34)
    finally:
        kernels._library.cache_clear()
        kernels.instruction_sets.cache_clear()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.setattr(kernels, "_wish", "auto")


@pytest.mark.parametrize("wish", [*kernels.instruction_sets(), "library"])
def test_by_wish(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment or by word, which goes before it."""
    best = kernels.chosen()
    monkeypatch.setenv(kernels.VARIABLE, wish)
    assert kernels.chosen() == wish
    monkeypatch.setenv(kernels.VARIABLE, "auto")
    assert kernels.chosen() == best
    kernels.choose(wish)
    assert kernels.chosen() == wish
    kernels.choose("auto")
    assert kernels.chosen() == best


def test_a_wish_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, and what was chosen before stays."""
    monkeypatch.setenv(kernels.VARIABLE, "nonsense")
    wanted = "^NEMOTRON_KERNELS is 'nonsense', expected one of auto, avx2, portable, library$"
    for ask in (kernels.chosen, lambda: kernels.choose("auto")):
        with pytest.raises(QuantError, match=wanted):
            ask()
    kernels.choose("library")
    with pytest.raises(QuantError, match=r"^--kernels is 'fast', expected one of"):
        kernels.choose("fast")
    assert kernels.chosen() == "library"


def test_a_wish_that_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "instruction_sets", lambda: ("portable",))
    with pytest.raises(
        QuantError, match=r"^--kernels is 'avx2', but this processor has no AVX2; expected auto or port"
    ):
        kernels.choose("avx2")
    monkeypatch.setattr(kernels, "instruction_sets", lambda: ())
    with pytest.raises(QuantError, match=r"no kernels were compiled with this package; expected auto or library$"):
        kernels.choose("portable")


def test_what_binds_an_unfinished_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wish, only where the library's bits may be others."""
    for machine, wish, bound in (
        ("x86_64", "library", {}),
        ("AMD64", "library", {}),
        ("aarch64", "library", {"kernels": "library"}),
        ("aarch64", "auto", {}),
    ):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        monkeypatch.setattr(kernels, "instruction_sets", lambda: ("portable",))
        kernels.choose(wish)
        assert kernels.identity() == bound, (machine, wish)


def test_a_type_without_a_kernel() -> None:
    assert not kernels.has_kernel(GGMLType.TQ1_0, weighted=False)
    assert kernels.encode(GGMLType.TQ1_0, np.ones((1, 256), dtype=np.float32), None) is None


@pytest.mark.parametrize("wish", ["", "library"])
@pytest.mark.parametrize("stored", [GGMLType.F32, GGMLType.F16, GGMLType.BF16])
def test_errors_name_tensor_and_row(wish: str, stored: GGMLType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sentences from the kernels and from the library."""
    monkeypatch.setenv(kernels.VARIABLE, wish)
    encoder = Quantize("a.weight", Cast(stored), GGMLType.Q8_0, 64)
    values = np.ones((4, 64), dtype=np.float32)
    values[2, 3] = np.nan
    with pytest.raises(QuantError, match=r"^a\.weight holds values that are not finite .* in row 12;"):
        encoder.encode(values.view(np.uint8), GGMLType.F32, 64, 10)
    if stored is not GGMLType.F16:
        values[2, 3] = 1e30
        with pytest.raises(QuantError, match=r"Q8_0 has no scale for in row 12, from 1 to 1e\+30 in size;"):
            encoder.encode(values.view(np.uint8), GGMLType.F32, 64, 10)


def test_bf16_goes_in_as_it_is() -> None:
    """The same blocks as from the widened numbers."""
    values = np.random.default_rng(5).standard_normal((3, 256)).astype(np.float32)
    rows = to_bf16(values)
    wide = (rows.astype(np.uint32) << 16).view(np.float32)
    for kind in (GGMLType.Q8_0, GGMLType.Q4_K, GGMLType.TQ1_0):
        assert np.array_equal(quantize_rows(kind, rows, None), quantize_rows(kind, wide, None))
