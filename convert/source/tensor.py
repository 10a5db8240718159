"""A tensor of a checkpoint: where it lies, what it holds, and its rows."""

from __future__ import annotations

from dataclasses import dataclass

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import RowSource
from nemotron_gguf.convert.source.fp8 import FP8Rows, Scales
from nemotron_gguf.convert.source.nvfp4 import MultipliedNVFP4, NVFP4Rows, Packed
from nemotron_gguf.convert.source.safetensors import STORAGE, Entry, Shard, TensorRows
from nemotron_gguf.models.ggml import GGMLType


@dataclass(frozen=True)
class Tensor:
    """A tensor of the checkpoint: its header entry and the shard that holds it.

    `scale` is that of 8-bit floats; `packed` a matrix of 4-bit floats, whose bytes the entry names.
    """

    entry: Entry
    shard: Shard
    scale: float | Scales | None = None
    packed: Packed | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in weights, outermost dimension first."""
        return self.entry.shape if self.packed is None else self.packed.shape

    @property
    def is_wide(self) -> bool:
        """Whether the weights lie as plain floats, and not in 8 or 4 bits with scales."""
        return self.scale is None and self.packed is None

    @property
    def type(self) -> GGMLType:
        """Storage type; for floats of 8 and 4 bits BF16, in which their product with the scale is at home.

        Raises ConvertError for one that is no plain float.
        """
        if not self.is_wide:
            return GGMLType.BF16
        try:
            return STORAGE[self.entry.dtype]
        except KeyError:
            raise ConvertError(
                f"tensor {self.entry.name} is of dtype {self.entry.dtype}, expected BF16, F16 or F32;"
                " convert from the checkpoint that was not quantized"
            ) from None

    def rows(self, n_per_row: int, wanted: GGMLType) -> RowSource:
        """The tensor as rows of `n_per_row` weights, as they lie; those of 8 and 4 bits multiplied out, to `wanted`."""
        if self.packed is not None:
            assert n_per_row == self.packed.shape[1], self.entry.name
            return MultipliedNVFP4(self.packed, wanted)
        kind = self.type if self.scale is None else GGMLType.I8
        rows = TensorRows(self.shard, self.entry, kind, self.entry.n_elements // n_per_row, n_per_row)
        if self.scale is None:
            return rows
        assert isinstance(self.scale, float) or n_per_row == self.entry.shape[-1], self.entry.name
        return FP8Rows(rows, self.scale, wanted)

    def blocks(self) -> RowSource:
        """A matrix of 4-bit floats as ggml's blocks; its columns must be a multiple of 64."""
        assert self.packed is not None, self.entry.name
        return NVFP4Rows(self.packed)
