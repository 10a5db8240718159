"""A file in parts, as llama.cpp's own tool cuts it: where a part ends, which keys it carries, what it is called.

The facts are those of `llama-gguf-split --split --split-max-size` (tools/gguf-split/gguf-split.cpp) and of the loader
(src/llama-model-loader.cpp); the parts are the same to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.models.gguf_parts import MAX_PARTS, SPLIT_COUNT, SPLIT_KEYS, SPLIT_NO, SPLIT_TENSORS, part_path
from nemotron_gguf.models.gguf_values import Value, ValueType
from nemotron_gguf.models.gguf_writer import DEFAULT_ALIGNMENT, pad

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def parse_size(text: str) -> int:
    """Bytes of `20G`, `500M`, `800K` or `1000000`.

    Units are decimal, as for llama-gguf-split (M and G) and convert_hf_to_gguf.py (K and plain bytes besides); a small
    letter means the same. Raises ConvertError for anything else, such as `1.5G`, of which llama.cpp reads the 1 alone.
    """
    match = re.fullmatch(r"(\d{1,18})([KMG]?)", text.strip().upper(), re.ASCII)
    if match is None or int(match[1]) == 0:
        raise ConvertError(f"the size {text!r} is not understood; expected a whole number and K, M or G, such as 20G")
    return int(match[1]) * _UNITS[match[2]]


def split_plan(plan: FilePlan, max_size: int) -> list[FilePlan]:
    """The parts of a file: tensors in their order, at most `max_size` bytes of them in each.

    As llama.cpp counts, headers do not go into `max_size`, padding does, and a larger tensor is a part by itself (the
    very first too, at which the tool gives up). The first part carries all the keys. Where everything fits there is
    one part, with the keys of a split file. No row is read. Raises ConvertError where `max_size` holds not even the
    smallest tensor, or would make too many parts.
    """
    groups = _groups(tuple(map(without_leading_ones, plan.tensors)), max_size)
    if len(groups) > MAX_PARTS:
        raise ConvertError(
            f"parts of at most {max_size} bytes would be {len(groups)}, a file can have {MAX_PARTS}; allow larger ones"
        )
    total = len(plan.tensors)
    first = {key: value for key, value in plan.metadata.items() if key not in SPLIT_KEYS}
    parts = [FilePlan(_keys(no, len(groups), total), tensors) for no, tensors in enumerate(groups)]
    parts[0] = replace(plan, metadata={**first, **parts[0].metadata}, tensors=groups[0])
    return parts


def split_files(plan: FilePlan, path: Path, max_size: int) -> list[tuple[FilePlan, Path]]:
    """The files to write instead of one at `path`: its parts under their names, or itself where everything fits.

    Raises ConvertError as `split_plan` does.
    """
    parts = split_plan(plan, max_size)
    if len(parts) == 1:
        return [(plan, path)]
    return [(part, split_path(path, number, len(parts))) for number, part in enumerate(parts, start=1)]


def split_path(path: Path, number: int, count: int) -> Path:
    """`NAME-00002-of-00007.gguf` for `NAME.gguf`, the second of seven: `number` counts from 1."""
    assert 1 <= number <= count <= MAX_PARTS, (number, count)
    return part_path(path, path.name.removesuffix(".gguf"), number, count)


def without_leading_ones(tensor: TensorPlan) -> TensorPlan:
    """The tensor as ggml's own programs write it: they count dimensions up to the last that is not one."""
    shape = tensor.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return replace(tensor, shape=shape)


def _groups(tensors: tuple[TensorPlan, ...], max_size: int) -> list[tuple[TensorPlan, ...]]:
    """The tensors of each part."""
    sizes = [pad(tensor.nbytes, DEFAULT_ALIGNMENT) for tensor in tensors]  # whatever the file's own alignment
    if max_size < min(sizes, default=1):
        raise ConvertError(
            f"parts of at most {max_size} bytes hold none of the {len(sizes)} tensors,"
            f" the smallest has {min(sizes, default=1)}; allow larger ones"
        )
    return list(_cut(tensors, sizes, max_size))


def _cut(tensors: tuple[TensorPlan, ...], sizes: list[int], max_size: int) -> Iterator[tuple[TensorPlan, ...]]:
    """A part ends where the next tensor would go beyond `max_size`."""
    begin, filled = 0, 0
    for index, size in enumerate(sizes):
        if filled + size > max_size and index > begin:
            yield tensors[begin:index]
            begin, filled = index, 0
        filled += size
    yield tensors[begin:]


def _keys(no: int, count: int, n_tensors: int) -> dict[str, Value]:
    """A part's keys, in the order in which llama.cpp's tool leaves them: the count comes to be known last."""
    return {
        SPLIT_NO: Value(ValueType.UINT16, no),
        SPLIT_TENSORS: Value(ValueType.INT32, n_tensors),
        SPLIT_COUNT: Value(ValueType.UINT16, count),
    }
