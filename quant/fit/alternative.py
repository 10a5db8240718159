"""The files that a model can become as far as widths go: each as it was, padded, or with fewer neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.widths.change import BLOCK
from nemotron_gguf.convert.writer.split import without_leading_ones
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant.classes import Cell, cells_of
from nemotron_gguf.quant.file_types import FileType, file_type
from nemotron_gguf.quant.options import QuantizeOptions
from nemotron_gguf.quant.plan import plan_quantization
from nemotron_gguf.quant.recipe import is_quantizable
from nemotron_gguf.quant.recipe_file import Recipe
from nemotron_gguf.quant.trimming import Trimming
from nemotron_gguf.quant.widths import order, paddable, with_widths


@dataclass(frozen=True)
class Alternative:
    """A file before it is quantized, and what becomes of its widths: which are padded, which lose neurons.

    `lost` is the divergence that trimming costs, beside that of the types.
    """

    source: FilePlan
    pad: frozenset[Dimension] = frozenset()
    trim: Trimming | None = None
    lost: float = 0.0

    @property
    def options(self) -> QuantizeOptions:
        """What every file of this alternative has in common."""
        return QuantizeOptions(file_type("Q8_0"), pad=self.pad, trim=self.trim, allow_requantize=True, dry_run=True)

    @cached_property
    def plan(self) -> FilePlan:
        """The file with its new widths, not quantized."""
        return with_widths(self.source, self.options)

    @cached_property
    def tensors(self) -> dict[str, TensorPlan]:
        """All tensors by name, their shapes as the quantized file has them."""
        return {tensor.name: without_leading_ones(tensor) for tensor in self.plan.tensors}

    @cached_property
    def cells(self) -> dict[Cell, tuple[str, ...]]:
        """The tensors that may be quantized, by cell."""
        tensors = sorted(self.tensors.values(), key=order)
        return cells_of(t.name for t in tensors if is_quantizable(t.name, t.shape, self.options))

    @cached_property
    def shares(self) -> dict[Cell, float]:
        """Each cell's part of all weights that may be quantized, 0 to 1."""
        weights = {cell: sum(prod(self.tensors[name].shape) for name in names) for cell, names in self.cells.items()}
        return {cell: count / sum(weights.values()) for cell, count in weights.items()}


def alternatives(source: FilePlan, trim: Trimming | None = None) -> list[Alternative]:
    """Every set of widths that may be padded or, where neurons were chosen, trimmed; the unchanged file first."""
    try:
        can_pad = paddable(source, BLOCK)
    except ConvertError:  # a model whose widths are not known
        return [Alternative(source)]
    can_trim = trim.dimensions if trim else frozenset()
    ways = [
        [None, "pad", *(["trim"] if dimension in can_trim else [])] for dimension in Dimension if dimension in can_pad
    ]
    dimensions = [dimension for dimension in Dimension if dimension in can_pad]
    found = []
    for chosen in product(*ways):
        named = list(zip(dimensions, chosen, strict=True))
        less = frozenset(dimension for dimension, way in named if way == "trim")
        some = replace(trim, dimensions=less) if trim and less else None
        found.append(Alternative(source, frozenset(d for d, way in named if way == "pad"), some))
    return found


def planned(
    alternative: Alternative,
    types: Mapping[Cell, GGMLType],
    imatrix: Imatrix | None,
    named: FileType | None = None,
    *,
    dry_run: bool = True,
) -> FilePlan:
    """The plan of a file with these types, or those of a named recipe.

    With `dry_run` it is for its sizes: missing importance is no error. Raises QuantError without, and where no type of
    the named recipe fits.
    """
    patterns = Recipe("", alternative.options.type, types).tensor_types(
        name for names in alternative.cells.values() for name in names
    )
    kind = named or alternative.options.type
    options = replace(alternative.options, type=kind, imatrix=imatrix, tensor_types=patterns, dry_run=dry_run)
    return plan_quantization(alternative.source, options)
