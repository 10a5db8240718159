"""The kernels' blocks are ggml's, bit for bit: those of the installed library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import ENCODABLE, as_float32
from nemotron_gguf.quant.kernels import NotFiniteError

if TYPE_CHECKING:
    from nemotron_gguf.tests.quant.kernels.conftest import Compare

MANY_BLOCKS = int(os.environ.get("NEMOTRON_KERNEL_BLOCKS", "0"))
"""Blocks compared of each type in a nightly run, with a seed of its own; `bench/kernels.py --compare` sets it."""

PIECE = 1 << 18  # weights compared at a time, and in a usual run

WAYS = [
    (kind, weighted) for kind in sorted(ENCODABLE) for weighted in (False, True) if kernels.has_kernel(kind, weighted)
]

if not WAYS:
    pytest.skip("no kernels were compiled", allow_module_level=True)


def name(way: object) -> str:
    return (
        way.name if isinstance(way, GGMLType) else "weighted" if way is True else "plain" if way is False else str(way)
    )


@pytest.mark.parametrize(("kind", "weighted"), WAYS, ids=name)
def test_same_bits_as_the_library(kind: GGMLType, weighted: bool, compare: Compare) -> None:
    """Over every distribution and importance; where ggml's scale is infinite, the kernel must refuse."""
    seed = int.from_bytes(os.urandom(6)) if MANY_BLOCKS else 7
    for piece in range(max(1, MANY_BLOCKS * kind.block_size // PIECE)):
        assert not compare(kind, weighted, PIECE, seed + piece), f"seed {seed + piece}"
    if MANY_BLOCKS:
        print(f"\n{kind.name}, {name(weighted)}: {MANY_BLOCKS} blocks, seed {seed}", flush=True)


@pytest.mark.parametrize("lanes", kernels.instruction_sets())
@pytest.mark.parametrize("dtype", [np.uint16, np.float16])
def test_sources_are_widened_exactly(lanes: str, dtype: type[np.uint16 | np.float16]) -> None:
    """Every BF16 and F16 that is finite, in rows that do not lie one after another."""
    every = np.arange(1 << 16, dtype=np.uint16)
    exponent = 0x7F80 if dtype is np.uint16 else 0x7C00
    finite = every[(every & exponent) != exponent].reshape(-1, 256).view(dtype)
    spread = np.zeros((2 * len(finite), 256), dtype=dtype)
    spread[::2] = finite
    wide = as_float32(finite)
    small = np.abs(wide).max(axis=1) < 1e5  # beyond, Q8_0's scale may be infinite
    for kind in (GGMLType.Q8_0, GGMLType.Q5_1):
        found = kernels.encode(kind, spread[::2][small], None, lanes)
        wanted = kernels.encode(kind, wide[small], None, lanes)
        assert found is not None
        assert np.array_equal(found, wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("lanes", kernels.instruction_sets())
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
def test_not_finite_is_refused_with_its_row(lanes: str, bad: float, source: str) -> None:
    values = np.ones((9, 768), dtype=np.float32)
    values[6, 701] = bad
    short = values.astype(np.float16) if source == "F16" else (values.view(np.uint32) >> 16).astype(np.uint16)
    for kind, weighted in WAYS:
        importance = np.ones(768, dtype=np.float32) if weighted else None
        with pytest.raises(NotFiniteError) as refusal:
            kernels.encode(kind, values if source == "F32" else short, importance, lanes)
        assert (refusal.value.row, refusal.value.in_input) == (6, True), kind.name


@pytest.mark.parametrize("lanes", kernels.instruction_sets())
def test_any_number_of_blocks(lanes: str) -> None:
    """Units that are not full, units over several rows: the same blocks as row by row."""
    rng = np.random.default_rng(3)
    for kind, weighted in WAYS:
        for n_rows, n_blocks in ((1, 1), (3, 1), (5, 3), (9, 11)):
            shape = (n_rows, n_blocks * kind.block_size)
            values = rng.standard_normal(shape).astype(np.float32)
            importance = rng.random(shape[1]).astype(np.float32) if weighted else None
            whole = kernels.encode(kind, values, importance, lanes)
            rows = [kernels.encode(kind, row[None], importance, lanes) for row in values]
            assert whole is not None
            assert np.array_equal(whole, np.concatenate([row for row in rows if row is not None])), kind.name
