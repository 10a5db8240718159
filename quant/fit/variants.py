"""A model in parts, one for each cell: a file with another type for one cell shares all its other parts.

So measuring a type of one class of a large model costs the bytes of that class, not those of the model. The parts are
those of a split GGUF: libllama opens them by the first, which carries the keys and whatever no cell has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_parts import SPLIT_COUNT, SPLIT_KEYS, SPLIT_NO, SPLIT_TENSORS
from nemotron_gguf.models.gguf_values import Value, ValueType
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.fit.alternative import Alternative, planned


@dataclass(frozen=True)
class InParts:
    """The parts of an alternative; cells that are given no type have that of `base`, or stay as they are stored."""

    alternative: Alternative
    imatrix: Imatrix | None
    base: GGMLType | None = None

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cell of each part but the first, in order."""
        return tuple(self.alternative.cells)

    @property
    def count(self) -> int:
        """How many parts there are."""
        return len(self.cells) + 1

    def type_of(self, cell: Cell, types: Mapping[Cell, GGMLType]) -> GGMLType:
        """The type of a cell, given those that are changed."""
        stored = self.alternative.tensors[self.alternative.cells[cell][0]].type
        return types.get(cell, self.base or stored)

    def first(self) -> FilePlan:
        """The part with the keys and with what no cell has."""
        whole = planned(self.alternative, self._all({}), self.imatrix)
        inside = {name for names in self.alternative.cells.values() for name in names}
        tensors = tuple(tensor for tensor in whole.tensors if tensor.name not in inside)
        keys = {key: value for key, value in whole.metadata.items() if key not in SPLIT_KEYS}
        return replace(whole, metadata={**keys, **self._keys(0)}, tensors=tensors)

    def part(self, cell: Cell, kind: GGMLType) -> FilePlan:
        """The part of a cell in a type."""
        whole = planned(self.alternative, self._all({cell: kind}), self.imatrix)
        return FilePlan(self._keys(self.cells.index(cell) + 1), tuple(self._of(cell, whole)))

    def _of(self, cell: Cell, whole: FilePlan) -> Iterator[TensorPlan]:
        names = set(self.alternative.cells[cell])
        return (tensor for tensor in whole.tensors if tensor.name in names)

    def _all(self, types: Mapping[Cell, GGMLType]) -> dict[Cell, GGMLType]:
        return {cell: self.type_of(cell, types) for cell in self.cells}

    def _keys(self, number: int) -> dict[str, Value]:
        return {
            SPLIT_NO: Value(ValueType.UINT16, number),
            SPLIT_TENSORS: Value(ValueType.INT32, len(self.alternative.tensors)),
            SPLIT_COUNT: Value(ValueType.UINT16, self.count),
        }
