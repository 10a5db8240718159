"""Weights in 4-bit floats (NVFP4): kept as ggml's blocks, bit for bit, or multiplied out.

A checkpoint has, of each matrix, two E2M1 codes a byte (the even column in the low half), an E4M3 scale for every 16
columns of a row, and one float32 scale for all. ggml's block has the same codes and scales in another order: four
scales, then 32 bytes, of which byte j of each 8 holds columns j and j + 8 of 16 (`block_nvfp4` of ggml-common.h). The
scale for all has no place in a block: it stands beside the tensor, and libllama multiplies the product by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.convert.source.fp8 import code_values
from nemotron_gguf.convert.source.safetensors import TensorRows
from nemotron_gguf.models.ggml import GGMLType

GROUP = 16  # columns that share an E4M3 scale
BLOCK = GGMLType.NVFP4.block_size

# The value of each E2M1 code (OCP Microscaling Formats, revision 1.0), the sign in the highest of four bits.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)

_NAN, _MINUS_ZERO = 0x7F, 0x80  # of E4M3; above the latter all is negative, or NaN


@dataclass(frozen=True)
class Packed:
    """A matrix of 4-bit floats: its codes' bytes, its scales' codes, and the scales that stand for all of it.

    `codes` are (rows, columns / 2) bytes, `scales` (rows, columns / 16). `scale` multiplies every weight; `input_scale`
    is that of the activations, 1 where the checkpoint has none; `wide_input` says that it was made for activations in
    more than 4 bits.
    """

    codes: TensorRows
    scales: TensorRows
    scale: float
    input_scale: float = 1.0
    wide_input: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, in weights."""
        return self.codes.n_rows, 2 * self.codes.n_per_row

    def read(self, first: int, last: int) -> tuple[Rows, Rows]:
        """Codes and scales of rows `first` up to `last`; ConvertError for a scale that is negative or no number."""
        codes, scales = self.codes.read(first, last), self.scales.read(first, last)
        if not bool(((scales > _MINUS_ZERO) | (scales == _NAN)).any()):
            return codes, scales
        raise ConvertError(
            f"{self.scales.entry.name} has a scale that is negative or no number; the checkpoint is damaged:"
            " download it again"
        )


@dataclass(frozen=True)
class _OfPacked:
    """What is asked of the rows, in whatever form they are wanted."""

    packed: Packed

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.packed.shape[0]

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        return self.packed.shape[1]

    @property
    def stored_row_bytes(self) -> int:
        """Bytes that are read for a row."""
        return self.n_per_row // 2 + self.n_per_row // GROUP


@dataclass(frozen=True)
class NVFP4Rows(_OfPacked):
    """Rows as ggml's blocks of 64, which hold the very codes and scales of the checkpoint (a RowSource)."""

    type: GGMLType = GGMLType.NVFP4

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`, repacked."""
        codes, scales = self.packed.read(first, last)
        n_blocks = (last - first) * self.n_per_row // BLOCK
        out = np.empty((n_blocks, self.type.type_size), np.uint8)
        out[:, :4] = scales.reshape(n_blocks, 4) & 0x7F  # a negative zero is a zero
        halves = codes.reshape(n_blocks, 4, 2, 4)  # of each 16 columns the first eight and the last
        low, high = halves[:, :, 0], halves[:, :, 1]
        blocks = np.empty((n_blocks, 4, 4, 2), np.uint8)
        blocks[..., 0] = (low & 0x0F) | (high << 4)
        blocks[..., 1] = (low >> 4) | (high & 0xF0)
        out[:, 4:] = blocks.reshape(n_blocks, 32)
        return out.reshape(last - first, -1)


@dataclass(frozen=True)
class MultipliedNVFP4(_OfPacked):
    """Rows read as `type`: F32, F16 or BF16 (a RowSource); the product in float32 is the exact one, rounded once."""

    type: GGMLType

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`, multiplied out and rounded once to the type."""
        codes, scales = self.packed.read(first, last)
        values = np.empty((last - first, self.n_per_row), np.float32)
        values[:, 0::2], values[:, 1::2] = E2M1[codes & 0x0F], E2M1[codes >> 4]
        groups = values.reshape(last - first, -1, GROUP)
        groups *= code_values("F8_E4M3")[scales][:, :, None]  # exact: two and four bits
        groups *= np.float32(self.packed.scale)
        return Cast(self.type).encode(values.view(np.uint8), GGMLType.F32, self.n_per_row, first)


@dataclass(frozen=True)
class Given:
    """One row of numbers known beforehand, as a tensor of scales is (a RowSource)."""

    values: tuple[float, ...]
    type: GGMLType = GGMLType.F32
    n_rows: int = 1

    @property
    def n_per_row(self) -> int:
        """How many numbers there are."""
        return len(self.values)

    def read(self, first: int, last: int) -> Rows:
        """The row, or none of it."""
        return np.array([self.values], np.float32)[first:last].view(np.uint8)
