"""A tensor of a checkpoint: where it lies, what it holds, and its rows."""

from __future__ import annotations

from dataclasses import dataclass

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import RowSource
from nemotron_gguf.convert.source.fp8 import FP8Rows, Scales
from nemotron_gguf.convert.source.safetensors import STORAGE, Entry, Shard, TensorRows
from nemotron_gguf.models.ggml import GGMLType


@dataclass(frozen=True)
class Tensor:
    """A tensor of the checkpoint: its header entry, the shard that holds it, and for 8-bit floats their scale."""

    entry: Entry
    shard: Shard
    scale: float | Scales | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as the checkpoint gives it, outermost dimension first."""
        return self.entry.shape

    @property
    def type(self) -> GGMLType:
        """Storage type; for 8-bit floats BF16, in which their product with the scale is at home.

        Raises ConvertError for one that is no plain float.
        """
        if self.scale is not None:
            return GGMLType.BF16
        try:
            return STORAGE[self.entry.dtype]
        except KeyError:
            raise ConvertError(
                f"tensor {self.entry.name} is of dtype {self.entry.dtype}, expected BF16, F16 or F32;"
                " convert from the checkpoint that was not quantized"
            ) from None

    def rows(self, n_per_row: int, wanted: GGMLType) -> RowSource:
        """The tensor as rows of `n_per_row` weights, as they lie; 8-bit floats are multiplied out, to `wanted`."""
        kind = self.type if self.scale is None else GGMLType.I8
        rows = TensorRows(self.shard, self.entry, kind, self.entry.n_elements // n_per_row, n_per_row)
        if self.scale is None:
            return rows
        assert isinstance(self.scale, float) or n_per_row == self.entry.shape[-1], self.entry.name
        return FP8Rows(rows, self.scale, wanted)
