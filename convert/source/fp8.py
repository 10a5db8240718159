"""Weights in 8-bit floats with their scales, read as what they stand for: value = fp8 x scale, rounded once.

There are 256 codes: with one scale for a whole matrix (NVIDIA's checkpoints) a table of 256 numbers, already of the
type wanted, is all the arithmetic there is. Scales by rows or by blocks multiply in float32. Both give, to the bit,
what torch's `weight.float() * scale.float()` gives, which is how llama.cpp's converter reads them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import isfinite

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.cast import Cast, to_float32
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import Rows, RowSource
from nemotron_gguf.convert.source.safetensors import TensorRows
from nemotron_gguf.models.ggml import GGMLType

PIECE = 1 << 16  # weights done at a time: numpy widens the codes to indices of 8 bytes, which should stay in the cache

# Of each format, by safetensors' name: the largest value (OCP 8-bit Floating Point Specification, revision 1.0), and
# from which code on, its sign left aside, a code is no finite number.
LARGEST = {"F8_E4M3": 448.0, "F8_E5M2": 57344.0}
_NOT_FINITE = {"F8_E4M3": 0x7F, "F8_E5M2": 0x7C}

MAX_VALUE = 3.3895313892515355e38  # the largest BF16


@cache
def code_values(dtype: str) -> npt.NDArray[np.float32]:
    """The value of each of a format's 256 codes, `(256,) float32`, exact; NaN for what is no finite number."""
    codes = np.arange(256, dtype=np.uint16)
    if dtype == "F8_E5M2":  # the upper half of an F16
        values = (codes << 8).view(np.float16).astype(np.float32)
    else:
        assert dtype == "F8_E4M3", dtype
        # sign, exponent and mantissa moved to an F16's places, whose exponent has 8 more for its bias
        values = (((codes & 0x80) << 8) | ((codes & 0x7F) << 7)).view(np.float16).astype(np.float32) * np.float32(256)
    values[(codes & 0x7F) >= _NOT_FINITE[dtype]] = np.nan
    return values


def check_scales(values: npt.NDArray[np.float32], name: str, dtype: str, *, zero: bool) -> None:
    """Refuse scales that no quantizer writes, for weights of `dtype`; `zero` says whether zero may be among them."""
    low, high = float(values.min()), float(values.max())  # a NaN is both
    largest = MAX_VALUE / LARGEST[dtype]
    if isfinite(low) and low >= 0 and high <= largest and (zero or low > 0):
        return
    found = low if not low >= 0 or (low == 0 and not zero) else high
    raise ConvertError(
        f"the scale {name} is {found:.6g}, expected a positive number up to {largest:.3g};"
        " the checkpoint is damaged: download it again"
    )


@dataclass(frozen=True)
class Scales:
    """Many scales of one tensor, read on demand: one for each block of `block` = (rows, columns) weights.

    The tensor is matrices of `matrix_rows` rows, each with whole blocks of its own; at its edges blocks are cut off.
    `dtype` is the weights' format.
    """

    rows: TensorRows
    block: tuple[int, int]
    matrix_rows: int
    dtype: str

    def read(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """The scales of weights' rows `first` up to `last`, `(last - first, blocks in a row) float32`."""
        rows = np.arange(first, last)
        blocks = -(-self.matrix_rows // self.block[0])
        index = rows // self.matrix_rows * blocks + rows % self.matrix_rows // self.block[0]
        low, high = int(index[0]), int(index[-1]) + 1
        values = to_float32(self.rows.read(low, high), self.rows.type)
        # a row or block of zeros may be a neuron that was pruned away
        check_scales(values, self.rows.entry.name, self.dtype, zero=True)
        found: npt.NDArray[np.float32] = values[index - low]
        return found


@dataclass(frozen=True)
class FP8Rows:
    """Rows of 8-bit floats read as `type`: F32, F16 or BF16 (a RowSource).

    `codes` are the bytes as they lie, `scale` the tensor's one scale or its many.
    """

    codes: TensorRows
    scale: float | Scales
    type: GGMLType

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.codes.n_rows

    @property
    def stored_row_bytes(self) -> int:
        """Bytes that are read for a row: one a weight."""
        return self.n_per_row

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        return self.codes.n_per_row

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`; ConvertError for a short read, or for a weight or scale that is no number."""
        codes = self.codes.read(first, last)
        out = np.empty((last - first, self.type.row_bytes(self.n_per_row)), np.uint8)
        if isinstance(self.scale, float):
            self._by_table(codes.reshape(-1), self.scale, out)
        else:
            self._by_scales(codes, self.scale.read(first, last), self.scale.block[1], out)
        return out

    def _by_table(self, codes: npt.NDArray[np.uint8], scale: float, out: Rows) -> None:
        """One scale: each code's value looked up in the type wanted."""
        values = code_values(self.codes.entry.dtype) * np.float32(scale)
        table = self._cast(values.reshape(1, 256)).reshape(-1).view(f"u{self.type.row_bytes(1)}")
        numbers = out.reshape(-1).view(table.dtype)
        for piece in _pieces(len(codes), 1):
            self._refuse_nan(codes[piece])
            np.take(table, codes[piece], out=numbers[piece], mode="clip")  # "raise" would go through a second buffer

    def _by_scales(self, codes: Rows, scales: npt.NDArray[np.float32], width: int, out: Rows) -> None:
        """A scale for every `width` weights of a row: multiplied in float32, then cast."""
        base = code_values(self.codes.entry.dtype)
        for piece in _pieces(len(codes), self.n_per_row):
            self._refuse_nan(codes[piece])
            values = np.take(base, codes[piece])
            wide = scales[piece]
            if wide.shape[1] > 1:
                wide = np.repeat(wide, width, axis=1)[:, : self.n_per_row]
            values *= wide
            out[piece] = self._cast(values)

    def _cast(self, values: npt.NDArray[np.float32]) -> Rows:
        """`(n, k) float32` as rows of the type."""
        return Cast(self.type).encode(values.view(np.uint8), GGMLType.F32, values.shape[1], 0)

    def _refuse_nan(self, codes: npt.NDArray[np.uint8]) -> None:
        dtype = self.codes.entry.dtype
        if int((codes & 0x7F).max()) >= _NOT_FINITE[dtype]:
            raise ConvertError(
                f"tensor {self.codes.entry.name} has a weight that is no finite number ({dtype});"
                " the checkpoint is damaged: download it again"
            )


def _pieces(n_rows: int, n_per_row: int) -> Iterator[slice]:
    step = max(1, PIECE // n_per_row)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


@dataclass(frozen=True)
class Widened:
    """Plain rows as F32, for a stack whose other parts are 8-bit floats (a RowSource)."""

    source: RowSource
    type: GGMLType = GGMLType.F32

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.source.n_rows

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        return self.source.n_per_row

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`."""
        return Cast(self.type).encode(self.source.read(first, last), self.source.type, self.n_per_row, first)
