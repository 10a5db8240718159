"""Rows of every kind that a quantizer can meet, and the comparison of our kernels with the library's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
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


GOLDEN = Path(__file__).with_name("golden.npz")


class Golden:
    """Weights `(24, 256)` and importance `(256,)` made of integers, and ggml's blocks of them in GOLDEN."""

    def __init__(self) -> None:
        parts = _integers(4 * 24 * 256, 1).reshape(4, 24, 256) >> np.uint64(48)
        total = parts.astype(np.int64).sum(axis=0) - 2 * 65535  # nearly Gaussian; every row has a scale of its own
        total[5], total[6] = np.abs(total[5]), -np.abs(total[6])
        total[7, ::3] = 0
        total[8, 100:200] = 0
        scale = np.exp2(-20.0 - np.arange(24) % 9)[:, None]
        self.weights: Floats = (total * scale).astype(np.float32)
        uniform = (_integers(256, 2) >> np.uint64(48)).astype(np.float32) * np.float32(2**-16)
        self.importance: Floats = uniform * uniform * uniform * uniform  # mostly small

    @staticmethod
    def name(kind: GGMLType, weighted: bool) -> str:
        """Of the blocks of a type, in the file."""
        return f"{kind.name}-{'weighted' if weighted else 'plain'}"

    def check(self, kind: GGMLType, weighted: bool, blocks: npt.NDArray[np.uint8]) -> None:
        """Fail where a block is not the golden one, and say which and where."""
        with np.load(GOLDEN) as table:
            wanted = table[self.name(kind, weighted)]
        assert blocks.shape == wanted.shape
        for row, at in zip(*np.nonzero(blocks != wanted), strict=True):
            block, byte = divmod(int(at), kind.type_size)
            raise AssertionError(
                f"{kind.name}: byte {byte} of block {block} in row {row} is {blocks[row, at]}, expected"
                f" {wanted[row, at]}; {int((blocks != wanted).any(axis=1).sum())} of {len(blocks)} rows differ"
            )


def _integers(n: int, seed: int) -> npt.NDArray[np.uint64]:
    """Uniform 64-bit integers (splitmix64)."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()


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


Compare = Callable[[GGMLType, bool, int, int], list[str]]


@pytest.fixture(scope="session")
def compare() -> Compare:
    """`differences` for tests."""
    return differences


def differences(kind: GGMLType, weighted: bool, n_weights: int, seed: int) -> list[str]:
    """The cases in which the blocks of an instruction set are not the library's; about `n_weights` are compared."""
    n_cases = len(DISTRIBUTIONS) * (5 if weighted else 1)
    wrong = []
    for name, values, importance in cases(weighted, -(-n_weights // (N_PER_ROW * n_cases)), seed):
        if name.partition(",")[0] in ENDS_THE_PROCESS.get(kind, ()):
            continue
        wanted = library_rows(kind, values, importance)
        sound = np.array([are_sound(kind, row) for row in wanted[:, None]])
        for lanes in kernels.instruction_sets():
            if refused(kind, values, importance, lanes) == bool(sound.all()):
                wrong.append(f"{lanes}, {name}: refused or not")
            if sound.any():
                found = kernels.encode(kind, values[sound], importance, lanes)
                assert found is not None, "no kernel"
                differ = (found != wanted[sound]).any(axis=1)
                if differ.any():
                    wrong.append(f"{lanes}, {name}: {differ.sum()} of {len(differ)} rows, first {int(differ.argmax())}")
    return wrong


def refused(kind: GGMLType, values: Floats, importance: Floats | None, lanes: str) -> bool:
    """Whether the kernel finds an infinite scale, as the library's own check does."""
    try:
        kernels.encode(kind, values, importance, lanes)
    except kernels.NotFiniteError as error:
        assert not error.in_input
        return True
    return False
