"""What each GGUF tensor is made of, and binding that to the tensors of a checkpoint: none missing, none left over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import RowSource, TensorPlan, Transform
from nemotron_gguf.convert.source.checkpoint import Checkpoint, name_some
from nemotron_gguf.convert.source.fp8 import Widened
from nemotron_gguf.convert.source.nvfp4 import Given, NVFP4Rows
from nemotron_gguf.convert.source.rows import InterleavedHeads, Zeros
from nemotron_gguf.convert.source.tensor import Tensor
from nemotron_gguf.models.ggml import GGMLType

MAX_LISTED = 3  # names in an error


@dataclass(frozen=True)
class Part:
    """One GGUF tensor: `sources`, each of `source_shape` in the checkpoint, are stacked and seen as `shape`.

    `as_f32` says that llama.cpp wants it in F32 whatever the file's type. `transform` makes the change of values for
    the sources' storage type. `interleave` is the rows of a head whose halves are interleaved. `stacked` is the name
    of one checkpoint tensor that holds all the sources at once, for checkpoints that were saved that way. `scalable`
    says that libllama multiplies by a scale beside the tensor, so that weights in 4-bit floats may keep their blocks.
    Without sources it is zeros.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    source_shape: tuple[int, ...]
    as_f32: bool = False
    transform: Callable[[GGMLType], Transform] | None = None
    interleave: int | None = None
    stacked: str | None = None
    scalable: bool = False

    def __post_init__(self) -> None:
        assert not self.sources or len(self.sources) * prod(self.source_shape) == prod(self.shape), self.name


def bind(
    parts: Iterable[Part], tensors: Mapping[str, Tensor], ignored: Sequence[str], target: GGMLType
) -> tuple[TensorPlan, ...]:
    """Find every part's sources and plan the casts; `ignored` are endings of names that are knowingly left out.

    Raises ConvertError where a tensor is missing, has another shape than the config says, or is used by no part.
    """
    used: set[str] = set()
    missing: list[str] = []
    plans: list[TensorPlan] = []
    for part in parts:
        names = _sources(part, tensors)
        absent = [name for name in names if name not in tensors]
        missing += absent
        used.update(names)
        if not absent:
            plans += _plans(part, [tensors[name] for name in names], target)
    if missing:
        raise ConvertError(
            f"the checkpoint lacks {len(missing)} tensors that its config.json calls for ({name_some(missing)});"
            " its download is incomplete, or the config is another model's"
        )
    left = [name for name in tensors if name not in used and not name.endswith(tuple(ignored))]
    if left:
        raise ConvertError(
            f"the checkpoint has {len(left)} tensors that its config.json does not account for ({name_some(left)});"
            " converting without them would give another model"
        )
    return tuple(plans)


def _sources(part: Part, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    if part.stacked is not None and part.stacked in tensors and part.sources[0] not in tensors:
        return (part.stacked,)
    return part.sources


def _plans(part: Part, found: Sequence[Tensor], target: GGMLType) -> Iterator[TensorPlan]:
    """The part's tensor, and where it keeps 4-bit blocks, its scales behind it."""
    plan = _plan(part, found, target)
    yield plan
    packed = [tensor.packed for tensor in found if tensor.packed is not None]
    if plan.type is not GGMLType.NVFP4:
        return
    stem = part.name.removesuffix("weight")
    for name, values in (
        ("scale", tuple(one.scale for one in packed)),
        ("input_scale", tuple(one.input_scale for one in packed)),
    ):
        if any(value != 1 for value in values):  # as llama.cpp's converter, which leaves out what changes nothing
            yield TensorPlan(stem + name, (len(values),), (Given(values),), Cast(GGMLType.F32))


def with_wide_inputs(plans: Iterable[TensorPlan]) -> list[str]:
    """Names of the tensors in 4-bit floats that were made for activations in more bits than four."""
    return [plan.name for plan in plans if any(_is_wide_input(rows) for rows in plan.sources)]


def _is_wide_input(rows: RowSource) -> bool:
    if isinstance(rows, InterleavedHeads):
        return _is_wide_input(rows.source)
    return isinstance(rows, NVFP4Rows) and rows.packed.wide_input


def _plan(part: Part, found: Sequence[Tensor], target: GGMLType) -> TensorPlan:
    whole = len(found) == 1 and len(part.sources) > 1
    expected = (len(part.sources), *part.source_shape) if whole else part.source_shape
    mixed = len({(tensor.scale is None, tensor.packed is None) for tensor in found}) > 1
    for tensor in found:
        if tensor.shape != expected:
            raise ConvertError(
                f"tensor {tensor.entry.name} has the shape {list(tensor.shape)},"
                f" expected {list(expected)} by config.json"
            )
        if tensor.type is not found[0].type and not mixed:
            raise ConvertError(
                f"tensor {tensor.entry.name} is of type {tensor.entry.dtype}, expected {found[0].entry.dtype}"
                f" as {found[0].entry.name}, with which it is stacked"
            )
    if not found:
        zeros = Zeros(prod(part.shape[:-1]), part.shape[-1])
        return TensorPlan(part.name, part.shape, (zeros,), Cast(GGMLType.F32 if part.as_f32 else target))
    if _keeps_blocks(part, found):
        blocks = tuple(_interleaved(part, tensor.blocks()) for tensor in found)
        return TensorPlan(part.name, part.shape, blocks, Cast(GGMLType.NVFP4))
    stored = GGMLType.F32 if part.as_f32 else target
    rows = tuple(_rows(part, tensor, stored, mixed) for tensor in found)
    transform = part.transform(found[0].type) if part.transform else None
    return TensorPlan(part.name, part.shape, rows, Cast(stored), transform)


def _rows(part: Part, tensor: Tensor, stored: GGMLType, mixed: bool) -> RowSource:
    """One source; `mixed` says that it is stacked with others of which some have scales and some not."""
    rows = tensor.rows(part.shape[-1], GGMLType.F32 if part.transform else stored)
    if mixed:
        rows = Widened(rows)
    return _interleaved(part, rows)


def _interleaved(part: Part, rows: RowSource) -> RowSource:
    return rows if part.interleave is None else InterleavedHeads(rows, part.interleave)


def _keeps_blocks(part: Part, found: Sequence[Tensor]) -> bool:
    """Whether weights in 4-bit floats stay what they are: libllama must know their scale, ggml's block must divide."""
    divides = part.shape[-1] % GGMLType.NVFP4.block_size == 0
    return part.scalable and divides and all(tensor.packed is not None for tensor in found)


def canonical_names(checkpoint: Checkpoint, prefixes: Sequence[str], renamed: Mapping[str, str]) -> dict[str, Tensor]:
    """The checkpoint's tensors by names without their prefix, endings in `renamed` replaced; no two may coincide."""
    found: dict[str, Tensor] = {}
    for original, tensor in checkpoint.tensors.items():
        name = next((original.removeprefix(prefix) for prefix in prefixes if original.startswith(prefix)), original)
        for old, new in renamed.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        if name in found:
            raise ConvertError(f"tensors {found[name].entry.name} and {original} are the same weight; expected one")
        found[name] = tensor
    return found
