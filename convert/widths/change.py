"""From a file's plan to the plan of the same model with other widths, whatever the plan was made of.

Padding adds zeros: neurons that never fire, columns of the residual stream in which nothing ever stands. Only norms
notice, since they divide by the number of columns (models.widths.Norms). Trimming leaves neurons out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod, sqrt

from nemotron_gguf.convert.cast import PLAIN, Cast
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.widths.resize import Kept, Resize, Side
from nemotron_gguf.convert.widths.table import ARCHITECTURES, HEAD_NORMS, TRIMMABLE, Sides, part_of, reader_of, sides
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, array, f32, string, u32
from nemotron_gguf.models.widths import (
    NORMS,
    TRIMMED_ERROR,
    Dimension,
    Norms,
    history_keys,
    padded_from,
    trimmed_from,
)

BLOCK = 256  # weights in a block of the K- and I-types
DRAFT_NOTE = (
    "the draft block (multi-token prediction) ends in a norm that subtracts the mean, which padding shifts a little:"
    " fewer of its drafts may be accepted, what the model answers stays the same"
)
EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")


@dataclass(frozen=True)
class Change:
    """New widths by dimension; those that are missing stay.

    `kept` are the neurons that stay where a width shrinks, by the name of the matrix that reads them; a plan without
    them can be looked at, not carried out. `error` is the predicted error of leaving out the others.
    """

    new: Mapping[Dimension, int]
    norms: Norms = Norms.STREAM
    kept: Mapping[str, Kept] = field(default_factory=dict)
    error: float | None = None


def widths_of(plan: FilePlan) -> dict[Dimension, int]:
    """The widths that a model has, by its tensors; a width that is not the same in all layers is left out.

    Raises ConvertError for a model whose widths are not known here, or whose keys say otherwise.
    """
    architecture = _architecture(plan)
    if architecture not in ARCHITECTURES:
        raise ConvertError(
            f"the widths of a model of architecture {architecture} cannot be changed, only those of"
            f" {' and '.join(ARCHITECTURES)}"
        )
    found: dict[Dimension, set[int]] = {}
    latent = _has_latent(plan)
    for tensor in plan.tensors:
        known = sides(tensor.name, latent=latent)
        if known is None:
            raise ConvertError(
                f"tensor {tensor.name} has no place in a model of {architecture}: its widths are unknown"
            )
        for dimension, size in _sizes(tensor, known):
            found.setdefault(dimension, set()).add(size)
    _check_keys(plan, found)
    return {dimension: next(iter(found[dimension])) for dimension in Dimension if len(found.get(dimension, ())) == 1}


def new_widths(
    widths: Mapping[Dimension, int],
    pad: Collection[Dimension] = (),
    trim: Collection[Dimension] = (),
    block: int = BLOCK,
) -> dict[Dimension, int]:
    """The widths that change: up to the next multiple of `block` for those in `pad`, down for those in `trim`."""
    assert not set(pad) & set(trim)
    assert set(trim) <= set(TRIMMABLE), trim
    up = {dimension: -(-widths[dimension] // block) * block for dimension in pad if dimension in widths}
    down = {dimension: widths[dimension] // block * block for dimension in trim if dimension in widths}
    changed = {**up, **{dimension: width for dimension, width in down.items() if width}}
    return {d: changed[d] for d in Dimension if d in changed and changed[d] != widths[d]}


def resized(plan: FilePlan, change: Change, decode: Callable[[TensorPlan], TensorPlan] | None = None) -> FilePlan:
    """The plan with those widths: tensors, keys, and a note that says what was done.

    Matrices that are scaled (Norms.STREAM) come as F32, to be stored or quantized without rounding in between.
    `decode` makes plain numbers of a tensor that is quantized already. Raises ConvertError as `widths_of`, and without
    it for such a tensor.
    """
    if not change.new:
        return plan
    widths = widths_of(plan)
    names = {tensor.name for tensor in plan.tensors}
    latent, tied = _has_latent(plan), "output.weight" not in names
    tensors = tuple(
        _resized(tensor, sides(tensor.name, latent=latent) or Sides(), widths, change, tied, decode)
        for tensor in plan.tensors
    )
    notes = [f"widths: {describe(widths, change)}"]
    if Dimension.HIDDEN in change.new and any(part_of(name) == HEAD_NORMS[1] for name in names):
        notes.append(DRAFT_NOTE)
    metadata = _metadata(plan.metadata, widths, change)
    return replace(plan, tensors=tensors, metadata=metadata, notes=(*plan.notes, *notes))


def padded(plan: FilePlan, block: int = BLOCK) -> FilePlan:
    """The plan of a conversion with every width padded to a multiple of the block; raises as `resized`.

    Files of 16 bits keep the bits of their weights (Norms.EPSILON), F32 files are exact.
    """
    widths = widths_of(plan)
    norms = Norms.STREAM if all(tensor.type is GGMLType.F32 for tensor in plan.tensors) else Norms.EPSILON
    return resized(plan, Change(new_widths(widths, pad=tuple(widths), block=block), norms))


def describe(widths: Mapping[Dimension, int], change: Change) -> str:
    """What a change does, for people: `hidden 2688 padded to 2816, expert 1856 trimmed to 1792`."""
    parts = []
    for dimension, new in change.new.items():
        parts.append(f"{dimension} {widths[dimension]} {'padded' if new > widths[dimension] else 'trimmed'} to {new}")
    error = f" (predicted error {change.error:.2%} of the trimmed outputs' energy)" if change.error is not None else ""
    return ", ".join(parts) + error


def _resized(
    tensor: TensorPlan,
    known: Sides,
    widths: Mapping[Dimension, int],
    change: Change,
    tied: bool,
    decode: Callable[[TensorPlan], TensorPlan] | None,
) -> TensorPlan:
    """One tensor with its new widths and, where the residual stream grows, its scale."""
    rows, columns = (_side(tensor, which, change, known) for which in ("rows", "columns"))
    scale = _scale(tensor.name, known, widths, change, tied)
    if rows.old == rows.new and columns.old == columns.new and scale == 1:
        return tensor
    if tensor.type not in PLAIN and decode is not None:
        tensor = decode(tensor)
    if tensor.type not in PLAIN:
        raise ConvertError(
            f"tensor {tensor.name} is {tensor.type.name} already, its widths cannot be changed; start from an F16, BF16"
            " or F32 file, or leave them as they are with --pad none"
        )
    shape = (*tensor.shape[:-2], rows.new, columns.new)[-len(tensor.shape) :]
    encoder = Cast(GGMLType.F32) if scale != 1 else tensor.encoder
    return replace(tensor, shape=shape, resize=Resize(rows, columns, scale), encoder=encoder)


def _side(tensor: TensorPlan, which: str, change: Change, known: Sides) -> Side:
    old = tensor.n_per_row if which == "columns" else (tensor.shape[-2] if len(tensor.shape) > 1 else 1)
    dimension = getattr(known, which)
    new = change.new.get(dimension)
    if new is None:
        return Side(old, old)
    halves = known.halves if which == "columns" else 1
    reader = reader_of(tensor.name)
    kept = change.kept.get(reader) if reader and new < old else None
    return Side(old, new * halves, kept, halves)


def _scale(name: str, known: Sides, widths: Mapping[Dimension, int], change: Change, tied: bool) -> float:
    """What a tensor's values are multiplied with where the stream has more columns than before, 1 elsewhere."""
    new = change.new.get(Dimension.HIDDEN)
    if new is None or not (known.norm or known.writes):
        return 1
    share = widths[Dimension.HIDDEN] / new
    if change.norms is Norms.EPSILON:
        return sqrt(share) if known.norm else 1
    if known.writes:
        return sqrt(1 / share)
    # a tied embedding is the output matrix too, and was made larger: the norm before it makes up for that
    return share if tied and part_of(name) in HEAD_NORMS else sqrt(share)


def _metadata(metadata: Mapping[str, Value], widths: Mapping[Dimension, int], change: Change) -> dict[str, Value]:
    """The keys with the new widths, and ours that tell the old ones."""
    keys, arch = dict(metadata), metadata["general.architecture"].plain()
    for dimension, new in change.new.items():
        key = f"{arch}.{dimension.key}"
        if dimension in (Dimension.EXPERT, Dimension.MLP):
            feed = f"{arch}.{Dimension.MLP.key}"
            keys[feed] = _replaced(keys[feed], widths[dimension], new)
        if dimension is not Dimension.MLP:
            keys[key] = _replaced(keys[key], widths[dimension], new)
    if Dimension.HIDDEN in change.new:
        keys[NORMS] = string(change.norms)
        if change.norms is Norms.EPSILON:
            share = widths[Dimension.HIDDEN] / change.new[Dimension.HIDDEN]
            for name in (f"{arch}.{key}" for key in EPSILONS):
                if name in keys:
                    keys[name] = f32(float(keys[name].data) * share)  # type: ignore[arg-type]
    up = {dimension: widths[dimension] for dimension, new in change.new.items() if new > widths[dimension]}
    down = {dimension: widths[dimension] for dimension, new in change.new.items() if new < widths[dimension]}
    keys |= history_keys({**up, **padded_from(metadata)}, {**down, **trimmed_from(metadata)})
    if change.error is not None:
        keys[TRIMMED_ERROR] = f32(change.error)
    return keys


def _replaced(value: Value, old: int, new: int) -> Value:
    """A width, or a list of widths by layer, with the new one in the place of the old."""
    if not value.is_array:
        return u32(new)
    items = value.plain()
    assert isinstance(items, list)
    return array(value.type, [new if item == old else item for item in items])


def _check_keys(plan: FilePlan, found: Mapping[Dimension, Collection[int]]) -> None:
    """The keys tell the widths that the tensors have."""
    architecture = _architecture(plan)
    for dimension, sizes in found.items():
        name = f"{architecture}.{dimension.key}"
        value = plan.metadata.get(name)
        told = value.plain() if value is not None else None
        widths = {item for item in told if item} if isinstance(told, list) else {told}
        if widths != set(sizes):
            raise ConvertError(
                f"{name} is {told!r:.60}, expected {sorted(sizes)} by the tensors; the widths of such a file cannot be"
                " changed: convert the checkpoint again"
            )


def _sizes(tensor: TensorPlan, known: Sides) -> Iterator[tuple[Dimension, int]]:
    if known.columns is not None:
        yield known.columns, tensor.n_per_row // known.halves
    if known.rows is not None:
        yield known.rows, tensor.n_rows // prod(tensor.shape[:-2])


def _has_latent(plan: FilePlan) -> bool:
    return any(part_of(tensor.name) == "ffn_latent_down.weight" for tensor in plan.tensors)


def _architecture(plan: FilePlan) -> str:
    value = plan.metadata.get("general.architecture")
    return str(value.data) if value is not None else "none"
