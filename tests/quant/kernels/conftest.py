"""Rows of every kind that a quantizer can meet, and the comparison of our kernels with the library's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import are_sound, library

Floats = npt.NDArray[np.float32]
Values = Any  # an array of any floats, made float32 afterwards
N_PER_ROW = 768  # three super-blocks: units of eight begin in the middle of a row


def _zero(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    return np.zeros(shape) * rng.choice([-1.0, 1.0], shape)


def _constant(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    return np.repeat(rng.standard_normal((shape[0], shape[1] // 16)), 16, axis=1) * rng.choice([1, 1e-6], (shape[0], 1))


def _outlier(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    values = np.zeros(shape)
    place = rng.integers(0, 32, (shape[0], shape[1] // 32)) + 32 * np.arange(shape[1] // 32)
    np.put_along_axis(values, place, rng.standard_normal(place.shape) * 10, axis=1)
    return values + rng.choice([0, 1e-3], (shape[0], 1)) * rng.standard_normal(shape)


def _sparse(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    return rng.standard_normal(shape) * (rng.random(shape) < 0.1)


def _levels(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Few values, many of them equal or opposite: ties in every search."""
    return rng.integers(-8, 9, shape) * np.repeat(rng.random((shape[0], shape[1] // 16)), 16, axis=1)


def _bf16(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    bits = (rng.standard_normal(shape) * 0.02).astype(np.float32).view(np.uint32)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def _mixed_scale(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    scale = np.exp2(rng.integers(-40, 15, (shape[0], shape[1] // 16)))
    return rng.standard_normal(shape) * np.repeat(scale, 16, axis=1)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Values]] = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape) * 0.02,
    "bf16": _bf16,
    "heavy": lambda rng, shape: rng.standard_t(2, shape),
    "zero": _zero,
    "constant": _constant,
    "outlier": _outlier,
    "sparse": _sparse,
    "levels": _levels,
    "negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)) - rng.choice([0, 1], (shape[0], 1)),
    "positive": lambda rng, shape: np.abs(rng.standard_normal(shape)) + rng.choice([0, 100], (shape[0], 1)),
    "mixed scale": _mixed_scale,
    "denormal": lambda rng, shape: rng.standard_normal(shape) * rng.choice([1e-39, 1e-41, 1e-44, 1e-37], (shape[0], 1)),
    "tiny": lambda rng, shape: rng.standard_normal(shape) * np.exp2(rng.integers(-120, -15, (shape[0], 1))),
    "large": lambda rng, shape: rng.uniform(-65504, 65504, shape),
    "huge": lambda rng, shape: rng.uniform(-1, 1, shape) * rng.choice([1e9, 1e19, 1e30, 3e38], (shape[0], 1)),
}


def importances(rng: np.random.Generator, n_per_row: int) -> Iterator[tuple[str, Floats]]:
    """Importance of every kind: a column's mean square, so never negative."""
    yield "usual", np.square(rng.standard_normal(n_per_row)).astype(np.float32)
    yield "uniform", np.ones(n_per_row, dtype=np.float32)
    yield "zero", np.zeros(n_per_row, dtype=np.float32)
    yield "half zero", (rng.random(n_per_row) * (rng.random(n_per_row) < 0.5)).astype(np.float32)
    yield "spiky", np.exp(rng.standard_normal(n_per_row) * 4).astype(np.float32)


ENDS_THE_PROCESS = {
    kind: {"huge"} for kind in (GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ2_S, GGMLType.IQ3_XXS, GGMLType.IQ3_S)
}
"""Where ggml's own search finds no point at all, which it answers with an abort."""


def library_rows(kind: GGMLType, values: Floats, importance: Floats | None) -> npt.NDArray[np.uint8]:
    """What ggml_quantize_chunk of the installed library makes."""
    blocks = np.empty((len(values), kind.row_bytes(values.shape[1])), dtype=np.uint8)
    weights = None if importance is None else importance.ctypes.data
    library().ggml_quantize_chunk(kind, values.ctypes.data, blocks.ctypes.data, 0, *values.shape, weights)
    return blocks


def cases(weighted: bool, n_rows: int, seed: int) -> Iterator[tuple[str, Floats, Floats | None]]:
    """`n_rows` rows of every distribution, under every importance where `weighted`."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        for name, make in DISTRIBUTIONS.items():
            values = np.ascontiguousarray(make(rng, (n_rows, N_PER_ROW)).astype(np.float32))
            if not weighted:
                yield name, values, None
                continue
            for kind_of_importance, importance in importances(rng, N_PER_ROW):
                yield f"{name}, importance {kind_of_importance}", values, importance


Compare = Callable[[GGMLType, bool, str, int, int], list[str]]


@pytest.fixture(scope="session")
def compare() -> Compare:
    """`differences` for tests."""
    return differences


def differences(kind: GGMLType, weighted: bool, lanes: str, n_weights: int, seed: int) -> list[str]:
    """The cases in which one instruction set's blocks are not the library's; about `n_weights` are compared in all."""
    n_cases = len(DISTRIBUTIONS) * (5 if weighted else 1)
    wrong = []
    for name, values, importance in cases(weighted, -(-n_weights // (N_PER_ROW * n_cases)), seed):
        if name.partition(",")[0] in ENDS_THE_PROCESS.get(kind, ()):
            continue
        wanted = library_rows(kind, values, importance)
        sound = np.array([are_sound(kind, row) for row in wanted[:, None]])
        if refused(kind, values, importance, lanes) == bool(sound.all()):
            wrong.append(f"{name}: refused or not")
        if sound.any():
            found = kernels.encode(kind, values[sound], importance, lanes)
            assert found is not None, "no kernel"
            differ = (found != wanted[sound]).any(axis=1)
            if differ.any():
                wrong.append(f"{name}: {differ.sum()} of {len(differ)} rows, first {int(differ.argmax())}")
    return wrong


def refused(kind: GGMLType, values: Floats, importance: Floats | None, lanes: str) -> bool:
    """Whether the kernel finds an infinite scale, as the library's own check does."""
    try:
        kernels.encode(kind, values, importance, lanes)
    except kernels.NotFiniteError as error:
        assert not error.in_input
        return True
    return False
