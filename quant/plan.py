"""From a file's plan to the plan of its quantized form: types, encoders, and llama.cpp's header and order.

The plan may be of a GGUF on disk or of a checkpoint's conversion; both go the same way, and end in the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nemotron_gguf.convert.cast import PLAIN
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.writer.split import without_leading_ones
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_parts import SPLIT_KEYS
from nemotron_gguf.models.gguf_values import Value, string, u32
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension, padded_from
from nemotron_gguf.quant.encode import Checked, Quantize
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import AUTO
from nemotron_gguf.quant.ggml_base import NEEDS_IMPORTANCE, can_dequantize
from nemotron_gguf.quant.importance import Importance, importance_of
from nemotron_gguf.quant.model import model_of
from nemotron_gguf.quant.options import QuantizeOptions
from nemotron_gguf.quant.place import Kind, kind_of
from nemotron_gguf.quant.recipe import Choice, choose, fitting, is_quantizable, needs_importance, overruled
from nemotron_gguf.quant.widths import order, with_widths

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION of ggml.h
MAX_OVERRIDE = 127  # bytes; llama-quantize carries the texts of its keys in a char[128]


def plan_quantization(plan: FilePlan, options: QuantizeOptions) -> FilePlan:
    """Choose every tensor's type and compose what makes it; the result's notes are about that choice alone.

    Widths are changed first, as the options say (quant.widths). Raises QuantError, before any weight is read, for what
    cannot be: a source already quantized, importance that is
    missing where a type needs it or that does not fit the tensor, rows that no type fits.
    """
    if options.type is AUTO:
        return _kept(plan, options)
    n_notes = len(plan.notes)
    plan = with_widths(plan, options)
    tensors = sorted((without_leading_ones(tensor) for tensor in plan.tensors), key=order)
    model = model_of(plan.metadata, (tensor.name for tensor in tensors), has_imatrix=options.imatrix is not None)
    choices = list(choose(((t.name, t.shape, t.type) for t in tensors), model, options))
    fitted = _Fitted(options.imatrix, padded_from(plan.metadata), any("ffn_latent" in t.name for t in tensors))
    encoded = tuple(_encoded(tensor, choice, options, fitted) for tensor, choice in zip(tensors, choices, strict=True))
    metadata = _metadata(plan.metadata, options)
    notes = (*plan.notes[n_notes:], *_fallback_notes(tensors, choices, options), *_importance_notes(encoded, options))
    return FilePlan(metadata, encoded, plan.alignment, notes)


def _kept(plan: FilePlan, options: QuantizeOptions) -> FilePlan:
    """The plan as it is, in its order and with its keys, but for the tensors that the options give a type by name."""
    if options.pad not in ("auto", "none") or options.trim is not None or options.pure:
        raise QuantError("--type auto keeps tensors and widths as they are; leave out --pad, --trim and --pure")
    names = [tensor.name for tensor in plan.tensors]
    model = model_of(plan.metadata, names, has_imatrix=options.imatrix is not None)
    fitted = _Fitted(options.imatrix, padded_from(plan.metadata), any("ffn_latent" in name for name in names))
    tensors: list[TensorPlan] = []
    notes: list[str] = []
    for tensor in plan.tensors:
        named = overruled(tensor.name, kind_of(tensor.name), model, options)
        if named is None or not is_quantizable(tensor.name, tensor.shape, options):
            named = tensor.type
        choice = Choice(fitting(tensor.name, named, tensor.n_per_row), named)
        tensors.append(_encoded(tensor, choice, options, fitted))
        notes += _fallback_notes([tensor], [choice], options)
    return replace(plan, tensors=tuple(tensors), notes=tuple(notes))


@dataclass(frozen=True)
class _Fitted:
    """An importance matrix for a model that may have been padded earlier, and may have experts in a latent width."""

    imatrix: Imatrix | None
    padded: Mapping[Dimension, int]
    latent: bool

    def of(self, tensor: TensorPlan) -> Importance | None:
        return importance_of(tensor, self.imatrix, self.padded, latent=self.latent)


def _encoded(tensor: TensorPlan, choice: Choice, options: QuantizeOptions, fitted: _Fitted) -> TensorPlan:
    if choice.type is tensor.type:
        return replace(tensor, encoder=Checked(tensor.name, tensor.encoder))
    _check_source(tensor, options)
    importance = fitted.of(tensor)
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
    if tensor.type is GGMLType.NVFP4 and kind_of(tensor.name) is Kind.OUTPUT:
        raise QuantError(
            f"{tensor.name} is NVFP4 with a scale beside it, which llama.cpp reads for no other type; keep it with"
            " --leave-output-tensor"
        )
    if not can_dequantize(tensor.type):
        raise QuantError(f"tensor {tensor.name} is of type {tensor.type.name}, which cannot be read as weights")


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
