"""ggml's tensor types and their block geometry: one table for every room.

Source: `enum ggml_type` and the type traits of ggml (ggml/include/ggml.h, ggml/src/ggml.c); a test compares each row
with the ggml library that is installed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class GGMLType(IntEnum):
    """Storage type of a tensor, by the number that GGUF files carry."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42

    @property
    def block_size(self) -> int:
        """Weights in one block; a row must be a multiple of it."""
        return _GEOMETRY[self].weights

    @property
    def type_size(self) -> int:
        """Bytes of one block."""
        return _GEOMETRY[self].nbytes

    @property
    def is_quantized(self) -> bool:
        """Whether the weights share scales in blocks, as opposed to plain numbers."""
        return self.block_size > 1

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight costs, scales included."""
        return 8 * self.type_size / self.block_size

    def row_bytes(self, n_per_row: int) -> int:
        """Bytes of a row of `n_per_row` weights, which must be a multiple of the block."""
        n_blocks, rest = divmod(n_per_row, self.block_size)
        if rest:
            raise ValueError(f"a row of {n_per_row} weights is no multiple of {self.name}'s block of {self.block_size}")
        return n_blocks * self.type_size


class _Block(NamedTuple):
    weights: int
    nbytes: int


_GEOMETRY: dict[GGMLType, _Block] = {
    GGMLType.F32: _Block(1, 4),
    GGMLType.F16: _Block(1, 2),
    GGMLType.BF16: _Block(1, 2),
    GGMLType.F64: _Block(1, 8),
    GGMLType.I8: _Block(1, 1),
    GGMLType.I16: _Block(1, 2),
    GGMLType.I32: _Block(1, 4),
    GGMLType.I64: _Block(1, 8),
    GGMLType.Q4_0: _Block(32, 18),
    GGMLType.Q4_1: _Block(32, 20),
    GGMLType.Q5_0: _Block(32, 22),
    GGMLType.Q5_1: _Block(32, 24),
    GGMLType.Q8_0: _Block(32, 34),
    GGMLType.Q8_1: _Block(32, 36),
    GGMLType.IQ4_NL: _Block(32, 18),
    GGMLType.MXFP4: _Block(32, 17),
    GGMLType.NVFP4: _Block(64, 36),
    GGMLType.Q2_0: _Block(64, 18),
    GGMLType.Q1_0: _Block(128, 18),
    GGMLType.Q2_K: _Block(256, 84),
    GGMLType.Q3_K: _Block(256, 110),
    GGMLType.Q4_K: _Block(256, 144),
    GGMLType.Q5_K: _Block(256, 176),
    GGMLType.Q6_K: _Block(256, 210),
    GGMLType.Q8_K: _Block(256, 292),
    GGMLType.IQ1_S: _Block(256, 50),
    GGMLType.IQ1_M: _Block(256, 56),
    GGMLType.IQ2_XXS: _Block(256, 66),
    GGMLType.IQ2_XS: _Block(256, 74),
    GGMLType.IQ2_S: _Block(256, 82),
    GGMLType.IQ3_XXS: _Block(256, 98),
    GGMLType.IQ3_S: _Block(256, 110),
    GGMLType.IQ4_XS: _Block(256, 136),
    GGMLType.TQ1_0: _Block(256, 54),
    GGMLType.TQ2_0: _Block(256, 66),
}
