"""Which tensors of a checkpoint are one matrix in 4-bit floats, and what scales it.

ModelOpt writes `x.weight` (U8), `x.weight_scale` (E4M3), `x.weight_scale_2` (F32) and `x.input_scale`;
compressed-tensors `x.weight_packed`, `x.weight_scale`, and as `x.weight_global_scale` and `x.input_global_scale` the
reciprocals of the last two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.fp8_scales import read_single
from nemotron_gguf.convert.source.nvfp4 import GROUP, Packed
from nemotron_gguf.convert.source.safetensors import STORAGE, TensorRows
from nemotron_gguf.convert.source.scheme import Scheme
from nemotron_gguf.convert.source.tensor import Tensor
from nemotron_gguf.models.ggml import GGMLType

LARGEST_SCALE = 1e30  # 6 x 448 x it is still far from the end of BF16; none is anywhere near one


@dataclass(frozen=True)
class Style:
    """Endings of the names, behind a module's; `inverse` says that the two scales of all are reciprocals."""

    codes: str
    scale: str
    input_scale: str
    inverse: bool


MODELOPT = Style(".weight", ".weight_scale_2", ".input_scale", inverse=False)
COMPRESSED = Style(".weight_packed", ".weight_global_scale", ".input_global_scale", inverse=True)
BLOCK_SCALE = ".weight_scale"


def with_blocks(tensors: Mapping[str, Tensor], scheme: Scheme | None) -> dict[str, Tensor]:
    """The tensors with matrices in 4-bit floats bound to their scales, each under the name of its weight.

    Raises ConvertError, in one line, for a scale that is missing, of another shape or type, or no positive number.
    """
    if scheme is None:
        return dict(tensors)
    found = dict(_matrices(tensors))
    scales = [tensors[name] for module, style in found.items() for name in _single(module, style, tensors)]
    values = dict(read_single(scales))
    bound: dict[str, Tensor] = {}
    left_out: set[str] = set()
    for module, style in found.items():
        if style is COMPRESSED and module + MODELOPT.codes in tensors:
            raise ConvertError(f"{module} has both {MODELOPT.codes} and {COMPRESSED.codes}, expected one of them")
        weight = tensors[module + style.codes]
        packed = _packed(weight, tensors[module + BLOCK_SCALE])
        scale = _value(module + style.scale, style, values)
        given = _value(module + style.input_scale, style, values) if module + style.input_scale in values else 1.0
        whole = replace(packed, scale=scale, input_scale=given, wide_input=scheme.is_weight_only(module))
        bound[module + MODELOPT.codes] = replace(weight, packed=whole)
        left_out |= {module + ending for ending in (style.codes, BLOCK_SCALE, style.scale, style.input_scale)}
    return {name: tensor for name, tensor in tensors.items() if name not in left_out} | bound


def _matrices(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Style]]:
    """The modules whose weight is in 4 bits: bytes with a scale in 8-bit floats beside them."""
    for name, tensor in tensors.items():
        style = next((style for style in (COMPRESSED, MODELOPT) if name.endswith(style.codes)), None)
        if style is None or tensor.entry.dtype != "U8":
            continue
        module = name.removesuffix(style.codes)
        scale = tensors.get(module + BLOCK_SCALE)
        if scale is None or scale.entry.dtype != "F8_E4M3":
            found = "nothing" if scale is None else f"one of dtype {scale.entry.dtype}"
            raise ConvertError(
                f"{name} holds weights packed in 4 bits and needs {module}{BLOCK_SCALE} of dtype F8_E4M3,"
                f" found {found}; download the checkpoint again"
            )
        yield module, style


def _single(module: str, style: Style, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Names of the scales of one number; the one of the weights must be there."""
    names = [module + ending for ending in (style.scale, style.input_scale)]
    for name, needed in zip(names, (True, False), strict=True):
        if name not in tensors:
            if needed:
                raise ConvertError(f"the checkpoint lacks {name}, which scales {module}; download it again")
            continue
        entry = tensors[name].entry
        if entry.n_elements != 1 or entry.dtype not in STORAGE:
            raise ConvertError(
                f"{name} is of dtype {entry.dtype} and shape {list(entry.shape)}, expected one number in"
                f" {', '.join(STORAGE)}"
            )
        yield name


def _value(name: str, style: Style, values: Mapping[str, float]) -> float:
    value = np.float32(values[name])
    if not (isfinite(value) and 1 / LARGEST_SCALE < value < LARGEST_SCALE):
        raise ConvertError(
            f"the scale {name} is {value:.6g}, expected a positive number; the checkpoint is damaged: download it again"
        )
    return float(np.float32(1) / value if style.inverse else value)


def _packed(weight: Tensor, scale: Tensor) -> Packed:
    """Codes and scales, whose shapes must fit; the scale of all is still 1."""
    shape, blocks = weight.entry.shape, scale.entry.shape
    if len(shape) != 2 or not weight.entry.n_elements or blocks != (shape[0], 2 * shape[1] // GROUP):
        expected = f"[rows, columns / {GROUP}] for two columns a byte"
        raise ConvertError(
            f"the scale {scale.entry.name} has the shape {list(blocks)}, expected {expected},"
            f" {weight.entry.name} being of shape {list(shape)}"
        )
    if 2 * shape[1] % GROUP:
        raise ConvertError(f"{weight.entry.name} has rows of {2 * shape[1]} weights, expected a multiple of {GROUP}")
    codes = TensorRows(weight.shard, weight.entry, GGMLType.I8, *shape)
    return Packed(codes, TensorRows(scale.shard, scale.entry, GGMLType.I8, *blocks), 1.0)
