"""The encoders of quantized files: blocks from what a plain conversion would have stored, and checked copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.cast import PLAIN, to_float32
from nemotron_gguf.convert.plan import Encoder, Rows
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.imatrix import ImatrixEntry
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.ggml_base import are_sound, dequantize_rows, quantize_rows

_BITS: dict[GGMLType, type[np.unsignedinteger[Any]]] = {
    GGMLType.F32: np.uint32,
    GGMLType.F16: np.uint16,
    GGMLType.BF16: np.uint16,
}
_EXPONENT = {GGMLType.F32: 0x7F800000, GGMLType.F16: 0x7C00, GGMLType.BF16: 0x7F80}  # all bits set: not finite


@dataclass(frozen=True)
class Keep:
    """Rows that are already of the type wanted, such as those of a GGUF file."""

    type: GGMLType

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:  # noqa: ARG002 - protocol
        """The rows themselves."""
        assert source is self.type, (source, self.type)
        return rows


@dataclass(frozen=True)
class Checked:
    """What another encoder makes, refused where it is not finite: a broken weight would spoil every answer."""

    tensor: str
    inner: Encoder

    @property
    def type(self) -> GGMLType:
        """Storage type of what comes out: the inner encoder's."""
        return self.inner.type

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:
        """Encode by the inner encoder; raises QuantError, naming the tensor, for a NaN or an infinity."""
        encoded = self.inner.encode(rows, source, n_per_row, first_row)
        if not is_finite(encoded, self.type):
            last = first_row + len(rows) - 1
            raise QuantError(
                f"{self.tensor} holds values that are not finite (NaN or infinity) in rows {first_row} to {last};"
                " the checkpoint is damaged: download or convert it again"
            )
        return encoded


@dataclass(frozen=True)
class Quantize:
    """Rows in blocks: first encoded as a plain conversion would store them, then widened and quantized.

    Going through the stored form makes one pass from a checkpoint give the bytes of converting and then quantizing.
    `rows_per_matrix` tells where one expert of a stacked tensor ends and the next, with importance of its own, begins.
    """

    tensor: str
    stored: Encoder
    type: GGMLType
    rows_per_matrix: int
    importance: ImatrixEntry | None = None

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:
        """Quantize rows; raises QuantError, naming the tensor, where the result cannot be finite."""
        stored = self.stored.encode(rows, source, n_per_row, first_row)
        values = widen(stored, self.stored.type, n_per_row)
        if self.importance is None:
            blocks = quantize_rows(self.type, values, None)
        else:
            blocks = self._weighed(values, first_row, self.importance)
        if not is_finite(blocks, self.type):
            raise QuantError(
                f"{self.tensor} has weights up to {np.abs(values).max():.3g}, too large for {self.type.name};"
                " choose another type for it with --tensor-type"
            )
        return blocks

    def _weighed(self, values: npt.NDArray[np.float32], first_row: int, importance: ImatrixEntry) -> Rows:
        """Quantize the rows of each expert with that expert's importance."""
        n_rows, n_per_row = values.shape
        pieces, row = [], 0
        while row < n_rows:
            matrix, place = divmod(first_row + row, self.rows_per_matrix)
            last = min(n_rows, row + self.rows_per_matrix - place)
            weights = importance.read(matrix * n_per_row, (matrix + 1) * n_per_row)
            pieces.append(quantize_rows(self.type, values[row:last], weights))
            row = last
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def widen(rows: Rows, kind: GGMLType, n_per_row: int) -> npt.NDArray[np.float32]:
    """`(n, row_bytes) uint8` in any type that can be decoded as `(n, n_per_row) float32`."""
    return to_float32(rows, kind) if kind in PLAIN else dequantize_rows(kind, rows, n_per_row)


def is_finite(rows: Rows, kind: GGMLType) -> bool:
    """Whether no value, and no scale of a block, is a NaN or an infinity."""
    if kind not in PLAIN:
        return are_sound(kind, rows)
    exponent = _BITS[kind](_EXPONENT[kind])
    return not bool(((rows.view(_BITS[kind]) & exponent) == exponent).any())
