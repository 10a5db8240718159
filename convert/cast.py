"""Plain number formats: widening to float32 and the encoders that only cast.

Rounding is ggml's: BF16 to the nearest even with NaNs kept quiet (`ggml_compute_fp32_to_bf16`), F16 as the hardware
and numpy round it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.models.ggml import GGMLType

PLAIN = {GGMLType.F32: np.dtype("<f4"), GGMLType.F16: np.dtype("<f2"), GGMLType.BF16: np.dtype("<u2")}


def to_float32(rows: Rows, source: GGMLType) -> npt.NDArray[np.float32]:
    """`(n, row_bytes) uint8` in F32, F16 or BF16 as `(n, n_per_row) float32`; F32 is a view, the others are exact."""
    if source is GGMLType.F32:
        return rows.view(np.float32)
    if source is GGMLType.F16:
        return rows.view(np.float16).astype(np.float32)
    if source is GGMLType.BF16:
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    raise ConvertError(f"rows of type {source.name} cannot be widened here, expected F32, F16 or BF16")


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """`(n, n_per_row) float32` rounded to the nearest BF16, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 64
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet, rounded).astype(np.uint16)


@dataclass(frozen=True)
class Cast:
    """The encoder of F32, F16 and BF16; rows that already are of the type pass through untouched."""

    type: GGMLType

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:  # noqa: ARG002 - protocol
        """Cast rows; raises ConvertError for a source that is no plain number."""
        if source is self.type:
            return rows
        values = to_float32(rows, source)
        if self.type is GGMLType.BF16:
            return to_bf16(values).view(np.uint8)
        if self.type is GGMLType.F16:
            with np.errstate(over="ignore"):  # beyond ±65504 becomes infinite, as in ggml
                return values.astype(np.float16).view(np.uint8)
        assert self.type is GGMLType.F32, self.type
        return np.ascontiguousarray(values).view(np.uint8)
