"""The encoders of quantized files: blocks from what a plain conversion would have stored, and checked copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.cast import PLAIN
from nemotron_gguf.convert.plan import Encoder, Rows
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.ggml_base import Numbers, are_sound, as_float32, dequantize_rows, quantize_rows
from nemotron_gguf.quant.importance import Importance
from nemotron_gguf.quant.kernels import NotFiniteError

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
            raise _damaged(self.tensor, f"rows {first_row} to {first_row + len(rows) - 1}")
        return encoded


@dataclass(frozen=True)
class Quantize:
    """Rows in blocks: first encoded as a plain conversion would store them, then quantized.

    Going through the stored form makes one pass from a checkpoint give the bytes of converting and then quantizing.
    `rows_per_matrix` tells where one expert of a stacked tensor ends and the next, with importance of its own, begins.
    """

    tensor: str
    stored: Encoder
    type: GGMLType
    rows_per_matrix: int
    importance: Importance | None = None

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:
        """Quantize rows; raises QuantError, naming the tensor, for a NaN or an infinity in it or in the result."""
        stored = self.stored.encode(rows, source, n_per_row, first_row)
        values = numbers(stored, self.stored.type, n_per_row)
        pieces = [
            self._quantize(values[first:last], first_row + first, weights)
            for first, last, weights in self._matrices(len(values), first_row)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _matrices(self, n_rows: int, first_row: int) -> Iterator[tuple[int, int, npt.NDArray[np.float32] | None]]:
        """Which rows belong to one expert, and that expert's importance; all rows at once without importance."""
        if self.importance is None:
            yield 0, n_rows, None
            return
        row = 0
        while row < n_rows:
            matrix, place = divmod(first_row + row, self.rows_per_matrix)
            last = min(n_rows, row + self.rows_per_matrix - place)
            yield row, last, self.importance.of(matrix)
            row = last

    def _quantize(self, values: Numbers, first_row: int, importance: npt.NDArray[np.float32] | None) -> Rows:
        try:
            return quantize_rows(self.type, values, importance)
        except NotFiniteError as error:
            if error.in_input:
                raise _damaged(self.tensor, f"row {first_row + error.row}") from None
            row = self._row_without_scale(values, importance)
            raise QuantError(
                f"{self.tensor} has weights that {self.type.name} has no scale for in row {first_row + row}, from"
                f" {_sizes(values[row])}; choose another type for it with --tensor-type"
            ) from None

    def _row_without_scale(self, values: Numbers, importance: npt.NDArray[np.float32] | None) -> int:
        """Which of the rows it is: encoders tell no more than some before it."""
        for row in range(len(values)):
            try:
                quantize_rows(self.type, values[row : row + 1], importance)
            except NotFiniteError:
                return row
        return 0


def _sizes(values: Numbers) -> str:
    """The least and the largest weight by size, zeros left out."""
    sizes = np.abs(as_float32(values))
    return f"{sizes[sizes > 0].min(initial=np.inf):.3g} to {sizes.max():.3g} in size"


def _damaged(tensor: str, rows: str) -> QuantError:
    return QuantError(
        f"{tensor} holds values that are not finite (NaN or infinity) in {rows};"
        " the checkpoint is damaged: download or convert it again"
    )


def numbers(rows: Rows, kind: GGMLType, n_per_row: int) -> Numbers:
    """`(n, row_bytes) uint8` as numbers `(n, n_per_row)`: a view of F32, F16 or BF16, of other types decoded."""
    if kind not in PLAIN:
        return dequantize_rows(kind, rows, n_per_row)
    values: Numbers = rows.view(str(PLAIN[kind]))
    return values


def is_finite(rows: Rows, kind: GGMLType) -> bool:
    """Whether no value, and no scale of a block, is a NaN or an infinity."""
    if kind not in PLAIN:
        return are_sound(kind, rows)
    exponent = _BITS[kind](_EXPONENT[kind])
    return not bool(((rows.view(_BITS[kind]) & exponent) == exponent).any())
