"""Which scale belongs to which tensor of 8-bit floats, and how it lies over it.

Single scales, thousands in a checkpoint of many experts, are read and checked at once: safetensors' writer puts them
beside each other, so that a shard costs one read. Larger ones are read with the rows they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod

import numpy as np

from nemotron_gguf.convert.cast import to_float32
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.fp8 import LARGEST, Scales, check_scales
from nemotron_gguf.convert.source.safetensors import STORAGE, Entry, TensorRows
from nemotron_gguf.convert.source.scheme import HF_QUANT_CONFIG, Scheme
from nemotron_gguf.convert.source.tensor import Tensor

# Endings of a weight's name that make the name of its scale: ModelOpt's and compressed-tensors', and transformers'
# block-wise FP8, which calls "inverse" what multiplies all the same.
SUFFIXES = ("_scale", "_scale_inv")

# Scales of activations and of the key/value cache: a file for llama.cpp computes with neither in 8 bits.
UNUSED = (
    ".input_scale", ".output_scale", ".activation_scale", "_activation_scale", ".q_scale", ".k_scale", ".v_scale",
)  # fmt: skip

GAP = 1 << 16  # bytes that are read along rather than asked for apart
SPAN = 4 << 20  # bytes read at a time
READS_AT_ONCE = 8


def with_scales(tensors: Mapping[str, Tensor], scheme: Scheme | None) -> dict[str, Tensor]:
    """The tensors with 8-bit floats bound to their scales, and without scales that nothing else needs.

    Raises ConvertError, in one line, for a scale that is missing, of another shape or type than fits, or no positive
    number, and for scales in 8 bits of what is not NVFP4.
    """
    weights = {name: tensor for name, tensor in tensors.items() if tensor.entry.dtype in LARGEST}
    scales = {name: _scale_name(name, tensors) for name in weights if not name.endswith(SUFFIXES)}
    if weights and scheme is None:
        raise ConvertError(
            f"tensor {next(iter(weights))} is of dtype {next(iter(weights.values())).entry.dtype}, but neither"
            f" config.json's quantization_config nor {HF_QUANT_CONFIG} says how it is scaled; download it again"
        )
    if scheme is None:
        return dict(tensors)
    for name in weights:
        if name.endswith(SUFFIXES) and name not in scales.values():
            raise _packed(name, tensors)
    bound = _bind(weights, {name: tensors[scale] for name, scale in scales.items()}, scheme)
    left_out = {*scales.values(), *(name for name in tensors if name.endswith(UNUSED))}
    return {name: bound.get(name, tensor) for name, tensor in tensors.items() if name not in left_out}


def _packed(name: str, tensors: Mapping[str, Tensor]) -> ConvertError:
    """A scale in 8-bit floats itself, of what is not NVFP4."""
    weight = tensors.get(name.removesuffix("_inv").removesuffix("_scale"))
    packed = f"{weight.entry.name} of dtype {weight.entry.dtype}" if weight else "no tensor that is here"
    return ConvertError(
        f"{name} in 8 bits scales {packed}: such weights are not read; convert from the BF16 or FP8 checkpoint"
    )


def _scale_name(weight: str, tensors: Mapping[str, Tensor]) -> str:
    names = [weight + suffix for suffix in SUFFIXES if weight + suffix in tensors]
    if len(names) != 1:
        found = " and ".join(names) or "none"
        raise ConvertError(
            f"tensor {weight} is of dtype {tensors[weight].entry.dtype} and needs one scale, found {found},"
            f" expected {weight}{SUFFIXES[0]}; download the checkpoint again"
        )
    return names[0]


def _bind(weights: Mapping[str, Tensor], scales: Mapping[str, Tensor], scheme: Scheme) -> dict[str, Tensor]:
    """Each weight with its one scale, by value, or with its many."""
    single: dict[str, Tensor] = {}
    bound: dict[str, Tensor] = {}
    for name, scale in scales.items():
        if scale.entry.dtype not in STORAGE:
            raise ConvertError(
                f"the scale {scale.entry.name} is of dtype {scale.entry.dtype}, expected {', '.join(STORAGE)};"
                " other scales are not read: convert from the BF16 checkpoint"
            )
        if scale.entry.n_elements == 1:
            single[name] = scale
        else:
            bound[name] = replace(weights[name], scale=_many(weights[name].entry, scale, scheme.block))
    values = dict(read_single(single.values()))
    for name, scale in single.items():
        value = values[scale.entry.name]
        check_scales(np.array([value], np.float32), scale.entry.name, weights[name].entry.dtype, zero=False)
        bound[name] = replace(weights[name], scale=value)
    return bound


def _many(weight: Entry, scale: Tensor, block: tuple[int, int] | None) -> Scales:
    """Scales by rows, by stacked matrices, or by blocks, as their shape says."""
    matrices, rows, columns = weight.shape[:-2], prod(weight.shape[-2:-1]), prod(weight.shape[-1:])
    shape = scale.entry.shape
    leading = _without_trailing_ones(shape)
    if not weight.n_elements:
        raise ConvertError(f"tensor {weight.name} of shape {list(weight.shape)} holds nothing, expected weights")
    if len(weight.shape) > 1 and 0 < len(leading) < len(weight.shape) and leading == weight.shape[: len(leading)]:
        height = prod(weight.shape[len(leading) : -1])
        return _over(weight, scale, (height, columns), rows)
    expected = "one number" if len(weight.shape) < 2 else f"one number, {[rows]} or {[rows, 1]}"
    if block is not None and len(weight.shape) > 1:
        high, wide = -(-rows // block[0]), -(-columns // block[1])
        # ModelOpt keeps the axes inside a block
        if shape in ((*matrices, high, wide), (*matrices, high, 1, wide, 1)):
            return _over(weight, scale, block, rows)
        expected = f"{[*matrices, high, wide]} for blocks of {block[0]} x {block[1]}"
    raise ConvertError(
        f"the scale {scale.entry.name} has the shape {list(shape)}, expected {expected}"
        f" for {weight.name} of shape {list(weight.shape)}"
    )


def _over(weight: Entry, scale: Tensor, block: tuple[int, int], matrix_rows: int) -> Scales:
    wide = -(-weight.shape[-1] // block[1])
    rows = TensorRows(scale.shard, scale.entry, scale.type, scale.entry.n_elements // wide, wide)
    return Scales(rows, block, matrix_rows, weight.dtype)


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def read_single(scales: Iterable[Tensor]) -> Iterator[tuple[str, float]]:
    """Name and value of scales of one number each; those that lie near each other are read at once."""
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="scales") as pool:
        for found in pool.map(_read_span, _spans(scales)):
            yield from found


def _spans(scales: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of scales that lie near each other in one shard."""
    span: list[Tensor] = []
    for scale in sorted(scales, key=lambda scale: (id(scale.shard), scale.entry.begin)):
        if span and not _near(span, scale):
            yield span
            span = []
        span.append(scale)
    if span:
        yield span


def _near(span: Sequence[Tensor], scale: Tensor) -> bool:
    first, last = span[0].entry, span[-1].entry
    return (
        scale.shard is span[0].shard
        and scale.entry.begin - (last.begin + last.nbytes) <= GAP
        and scale.entry.begin + scale.entry.nbytes - first.begin <= SPAN
    )


def _read_span(span: Sequence[Tensor]) -> list[tuple[str, float]]:
    start, last = span[0].entry.begin, span[-1].entry
    raw = np.frombuffer(span[0].shard.read(start, last.begin + last.nbytes - start), np.uint8)
    return [(scale.entry.name, _value(raw[scale.entry.begin - start :], scale)) for scale in span]


def _value(raw: np.ndarray[tuple[int], np.dtype[np.uint8]], scale: Tensor) -> float:
    """The number at the beginning of `raw`."""
    piece = np.array(raw[: scale.entry.nbytes]).reshape(1, -1)  # aligned, as a copy
    return float(to_float32(piece, scale.type)[0, 0])
