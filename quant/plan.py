"""From a file's plan to the plan of its quantized form: types, encoders, and llama.cpp's header and order.

The plan may be of a GGUF on disk or of a checkpoint's conversion; both go the same way, and end in the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from nemotron_gguf.convert.cast import PLAIN
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.writer.split import without_leading_ones
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_parts import SPLIT_KEYS
from nemotron_gguf.models.gguf_values import Value, string, u32
from nemotron_gguf.models.imatrix import Imatrix, ImatrixEntry
from nemotron_gguf.quant.encode import Checked, Quantize
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.ggml_base import NEEDS_IMPORTANCE, can_dequantize
from nemotron_gguf.quant.model import model_of
from nemotron_gguf.quant.options import QuantizeOptions
from nemotron_gguf.quant.place import Kind, kind_of, layer_of
from nemotron_gguf.quant.recipe import Choice, choose, needs_importance

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h
MAX_OVERRIDE = 127  # bytes; llama-quantize carries the texts of its keys in a char[128]


def plan_quantization(plan: FilePlan, options: QuantizeOptions) -> FilePlan:
    """Choose every tensor's type and compose what makes it; the result's notes are about that choice alone.

    Raises QuantError, before any weight is read, for what cannot be: a source already quantized, importance that is
    missing where a type needs it or that does not fit the tensor, rows that no type fits.
    """
    tensors = sorted((without_leading_ones(tensor) for tensor in plan.tensors), key=_order)
    model = model_of(plan.metadata, (tensor.name for tensor in tensors), has_imatrix=options.imatrix is not None)
    choices = list(choose(((t.name, t.shape, t.type) for t in tensors), model, options))
    encoded = tuple(_encoded(tensor, choice, options) for tensor, choice in zip(tensors, choices, strict=True))
    metadata = _metadata(plan.metadata, options)
    notes = (*_fallback_notes(tensors, choices, options), *_importance_notes(encoded, options))
    return FilePlan(metadata, encoded, plan.alignment, notes)


def _order(tensor: TensorPlan) -> tuple[int, bytes]:
    """llama.cpp's order: what belongs to no layer, then layer by layer, each by name."""
    layer = layer_of(tensor.name)
    return -1 if layer is None else layer, tensor.name.encode("utf-8", "surrogateescape")


def _encoded(tensor: TensorPlan, choice: Choice, options: QuantizeOptions) -> TensorPlan:
    if choice.type is tensor.type:
        return replace(tensor, encoder=Checked(tensor.name, tensor.encoder))
    _check_source(tensor, options)
    importance = _importance(tensor, options.imatrix)
    if importance is None and not options.dry_run and _needs_importance(tensor, choice.type, options):
        raise QuantError(
            f"tensor {tensor.name} becomes garbage as {choice.type.name} without importance; give an importance"
            " matrix that covers it with --imatrix, or choose another type"
        )
    return replace(tensor, encoder=Quantize(tensor.name, tensor.encoder, choice.type, tensor.shape[-2], importance))


def _needs_importance(tensor: TensorPlan, kind: GGMLType, options: QuantizeOptions) -> bool:
    return kind in NEEDS_IMPORTANCE or needs_importance(tensor.name, kind, options.type)


def _check_source(tensor: TensorPlan, options: QuantizeOptions) -> None:
    if len(tensor.shape) > 3:
        raise QuantError(f"tensor {tensor.name} has shape {list(tensor.shape)}, at most 3 dimensions can be quantized")
    if tensor.type in PLAIN:
        return
    if tensor.type.is_quantized and not options.allow_requantize:
        raise QuantError(
            f"tensor {tensor.name} is {tensor.type.name} already, quantizing it again costs quality;"
            " start from an F16, BF16 or F32 file, or pass --allow-requantize"
        )
    if not can_dequantize(tensor.type):
        raise QuantError(f"tensor {tensor.name} is of type {tensor.type.name}, which cannot be read as weights")


def _importance(tensor: TensorPlan, imatrix: Imatrix | None) -> ImatrixEntry | None:
    """What the matrix has for a tensor; a size that does not fit is excused for the embedding only, as in llama.cpp."""
    entry = imatrix.entries.get(tensor.name) if imatrix else None
    expected = tensor.n_per_row * prod(tensor.shape[:-2])
    if entry is None or entry.n_values == expected:
        return entry
    if kind_of(tensor.name) is Kind.TOKEN_EMBD:
        return None
    raise QuantError(
        f"the importance matrix has {entry.n_values} values for {tensor.name}, expected {expected};"
        " it was made for another model"
    )


def _metadata(source: Mapping[str, Value], options: QuantizeOptions) -> dict[str, Value]:
    """The source's keys with ours at the end, each one moved there where it was already."""
    metadata = {key: value for key, value in source.items() if key not in SPLIT_KEYS}
    ours = {
        "general.quantization_version": u32(QUANTIZATION_VERSION),
        "general.file_type": u32(options.type.number),
        **_imatrix_keys(options.imatrix),
    }
    for key, value in ours.items():
        metadata.pop(key, None)
        metadata[key] = value
    return metadata


def _imatrix_keys(imatrix: Imatrix | None) -> dict[str, Value]:
    if imatrix is None:
        return {}
    keys = {"quantize.imatrix.file": _cut(imatrix.name)}
    if imatrix.datasets:
        keys["quantize.imatrix.dataset"] = _cut(imatrix.datasets[0])
    keys["quantize.imatrix.entries_count"] = u32(len(imatrix.entries))
    if imatrix.chunk_count > 0:
        keys["quantize.imatrix.chunks_count"] = u32(imatrix.chunk_count)
    return keys


def _cut(text: str) -> Value:
    raw = text.encode("utf-8", "surrogateescape")[:MAX_OVERRIDE]
    return string(raw.decode("utf-8", "surrogateescape"))


def _fallback_notes(tensors: Iterable[TensorPlan], choices: Iterable[Choice], options: QuantizeOptions) -> list[str]:
    """A word for each explicit type that does not fit, and one for all the tensors that the mixture could not fit."""
    notes: list[str] = []
    others: Counter[tuple[str, str]] = Counter()
    for tensor, choice in zip(tensors, choices, strict=True):
        if choice.type is choice.wanted:
            continue
        if choice.wanted in _explicit_types(tensor.name, options):
            notes.append(
                f"{tensor.name} becomes {choice.type.name}, not {choice.wanted.name} as asked:"
                f" its rows of {tensor.n_per_row} weights are no multiple of {choice.wanted.block_size}"
            )
        else:
            others[choice.type.name, choice.wanted.name] += 1
    if others:
        parts = (f"{count} become {found} instead of {wanted}" for (found, wanted), count in others.items())
        notes.append(f"rows that no block of the wanted type fits: {', '.join(parts)}")
    return notes


def _explicit_types(name: str, options: QuantizeOptions) -> set[GGMLType | None]:
    match kind_of(name):
        case Kind.OUTPUT:
            return {options.output_tensor_type}
        case Kind.TOKEN_EMBD:
            return {options.token_embedding_type, options.output_tensor_type}  # the latter where it serves as output
        case _:
            return set()


def _importance_notes(tensors: Iterable[TensorPlan], options: QuantizeOptions) -> list[str]:
    bare = [t for t in tensors if isinstance(t.encoder, Quantize) and t.encoder.importance is None]
    if needing := [t for t in bare if _needs_importance(t, t.type, options)]:
        return [f"an importance matrix (--imatrix) is needed for {_first_of(needing)}"]
    if options.imatrix is None or not bare:
        return []
    return [f"the importance matrix says nothing of {_first_of(bare)}: quantized with all columns alike"]


def _first_of(tensors: Sequence[TensorPlan]) -> str:
    return tensors[0].name + (f" and {len(tensors) - 1} more" if len(tensors) > 1 else "")
