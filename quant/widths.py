"""Which widths a quantized file gets: padded where that makes it smaller, trimmed where that was asked for.

A type in blocks of 256 weights applies only to rows that are a multiple of it; others fall back to larger types.
Padding costs bytes and buys those types. What it comes to is counted, for every set of widths that could be padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from nemotron_gguf.convert.cast import PLAIN, Cast
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.widths.change import Change, new_widths, resized, widths_of
from nemotron_gguf.convert.writer.split import without_leading_ones
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_writer import pad, tensor_bytes
from nemotron_gguf.models.widths import Dimension, Norms
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.model import model_of
from nemotron_gguf.quant.options import QuantizeOptions
from nemotron_gguf.quant.place import layer_of
from nemotron_gguf.quant.recipe import choose
from nemotron_gguf.quant.source import Decoded

WORTH_IT = 0.1
"""The share of a file's bytes that padding must save at all: its types have fewer bits than those fallen back to."""

NOT_WORTH_IT = 0.01
"""The share of a file's bytes that is no reason to pad one width more."""


def with_widths(plan: FilePlan, options: QuantizeOptions) -> FilePlan:
    """The plan with the widths that `options.pad` and `options.trim` ask for, its types not yet chosen.

    Raises ConvertError for a model whose widths cannot be changed, unless the choice was left to `auto`.
    """
    if options.pad == "none" and options.trim is None:
        return plan
    if options.pad == "auto" and options.trim is None and not _can_change(plan, options):
        return plan
    some = padding(plan, options)
    changed = widened(plan, some, options)
    if options.trim is None:
        return changed
    instead = widened(plan, some | options.trim.dimensions, replace(options, trim=None))
    more = data_bytes(instead, options) - data_bytes(changed, options)
    note = f"padded instead of trimmed, the file would be {more / 1e6:,.1f} MB larger"
    return replace(changed, notes=(*changed.notes, note))


def padding(plan: FilePlan, options: QuantizeOptions) -> frozenset[Dimension]:
    """The widths to pad, by `options.pad`: those named, all that are no multiple of the block, or the best of these."""
    if not isinstance(options.pad, str):
        return options.pad
    trim = options.trim.dimensions if options.trim else frozenset()
    candidates = paddable(plan, options.block) - trim
    if options.pad != "auto":
        return candidates if options.pad == "all" else frozenset()
    sizes: dict[frozenset[Dimension], int] = {}
    problem = None
    for some in _subsets(candidates):
        try:
            sizes[some] = data_bytes(widened(plan, some, _without_neurons(options)), options)
        except QuantError as error:  # a type that has no relative for such rows
            problem = error
    if not sizes:
        assert problem is not None
        raise problem
    nothing, smallest = frozenset[Dimension](), min(sizes.values())
    if nothing in sizes and smallest > sizes[nothing] * (1 - WORTH_IT):
        return nothing
    enough = smallest * (1 + NOT_WORTH_IT)
    return min((some for some in sizes if sizes[some] <= enough), key=lambda some: (len(some), sizes[some]))


def paddable(plan: FilePlan, block: int) -> frozenset[Dimension]:
    """The widths that are no multiple of the block; raises ConvertError as `widths_of`."""
    widths = widths_of(plan)
    return frozenset(new_widths(widths, pad=tuple(widths), block=block))


def widened(plan: FilePlan, pad_some: frozenset[Dimension], options: QuantizeOptions) -> FilePlan:
    """The plan with these widths padded, and those of `options.trim` trimmed."""
    trim = options.trim
    new = new_widths(widths_of(plan), pad_some, trim.dimensions if trim else (), options.block)
    # what is stored in 16 bits would be rounded by the scale of the exact way (docs/figures.md)
    norms = Norms.STREAM if options.type.base.is_quantized or options.type.base is GGMLType.F32 else Norms.EPSILON
    change = Change(new, norms, trim.kept if trim else {}, trim.error if trim else None)
    return resized(plan, change, decoded if options.allow_requantize else None)


def data_bytes(plan: FilePlan, options: QuantizeOptions) -> int:
    """Bytes of the tensors' data in the quantized file, with the types that would be chosen.

    Raises QuantError where no type fits.
    """
    tensors = sorted((without_leading_ones(tensor) for tensor in plan.tensors), key=order)
    model = model_of(plan.metadata, (tensor.name for tensor in tensors), has_imatrix=options.imatrix is not None)
    choices = choose(((t.name, t.shape, t.type) for t in tensors), model, options)
    pairs = zip(tensors, choices, strict=True)
    return sum(pad(tensor_bytes(tensor.shape, choice.type), plan.alignment) for tensor, choice in pairs)


def order(tensor: TensorPlan) -> tuple[int, bytes]:
    """llama.cpp's order: what belongs to no layer, then layer by layer, each by name."""
    layer = layer_of(tensor.name)
    return -1 if layer is None else layer, tensor.name.encode("utf-8", "surrogateescape")


def decoded(tensor: TensorPlan) -> TensorPlan:
    """A quantized tensor of a file, read as the F32 that its blocks stand for."""
    return replace(tensor, sources=tuple(map(Decoded, tensor.sources)), encoder=Cast(GGMLType.F32))


def _without_neurons(options: QuantizeOptions) -> QuantizeOptions:
    """The options without the neurons to keep, which sizes do not depend on."""
    if options.trim is None:
        return options
    return replace(options, trim=replace(options.trim, kept={}, error=None))


def _can_change(plan: FilePlan, options: QuantizeOptions) -> bool:
    """Whether widths may be changed without being asked to: no other architecture, nothing quantized already."""
    try:
        widths_of(plan)
    except ConvertError:
        return False
    return options.allow_requantize or all(not t.type.is_quantized or t.type in PLAIN for t in plan.tensors)


def _subsets(dimensions: frozenset[Dimension]) -> Iterator[frozenset[Dimension]]:
    """All subsets, in a fixed order."""
    known = [dimension for dimension in Dimension if dimension in dimensions]
    for size in range(len(known) + 1):
        yield from map(frozenset, combinations(known, size))
