"""A model in several GGUF files, as llama.cpp splits them: names, keys, and whether they belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf
from nemotron_gguf.models.gguf_values import ValueType

SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"
SPLIT_KEYS = (SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS)
_TYPES = {SPLIT_NO: ValueType.UINT16, SPLIT_COUNT: ValueType.UINT16, SPLIT_TENSORS: ValueType.INT32}
MAX_PARTS = 65535  # split.count is a 16-bit number


class PartName(NamedTuple):
    """What `NAME-00002-of-00007.gguf` says: `stem` is NAME, `number` counts from 1."""

    stem: str
    number: int
    n_parts: int


def part_name(path: Path) -> PartName | None:
    """What a file's name says of its place among several; None where it is not named as a part."""
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name, re.ASCII | re.DOTALL)
    if match is None or not 1 <= int(match[2]) <= int(match[3]) <= MAX_PARTS:
        return None
    return PartName(match[1], int(match[2]), int(match[3]))


def part_path(path: Path, stem: str, number: int, n_parts: int) -> Path:
    """The name, beside `path`, of one part; `number` counts from 1."""
    return path.with_name(f"{stem}-{number:05}-of-{n_parts:05}.gguf")


def part_paths(path: Path) -> list[Path]:
    """All parts of the model that a file is named as a part of, in order; the file alone where it is not."""
    name = part_name(path)
    if name is None:
        return [path]
    return [part_path(path, name.stem, number, name.n_parts) for number in range(1, name.n_parts + 1)]


def read_parts(path: str | Path) -> tuple[GGUFFile, ...]:
    """A file, or all parts of a split model that is given by its first.

    Raises GGUFError for a file that is not sound, ModelError for parts that do not belong together.
    """
    parts = tuple(_parts(read_gguf(path)))
    whole(parts)
    return parts


def read_whole(path: str | Path) -> GGUFFile:
    """What `read_parts` finds as one: the first part's keys, all bytes, all tensors, each at its offset in its file."""
    return whole(tuple(_parts(read_gguf(path))))


def whole(parts: Sequence[GGUFFile]) -> GGUFFile:
    """All parts as one: the first one's keys. Raises ModelError where they do not belong together."""
    path, tensors = parts[0].path, tuple(tensor for part in parts for tensor in part.tensors)
    count = len({tensor.name for tensor in tensors})
    if count != len(tensors):
        raise ModelError(f"the parts of {path} have tensors of the same name; they do not belong together")
    expected = parts[0].get(SPLIT_TENSORS)
    if len(parts) > 1 and expected != count:
        raise ModelError(f"the {len(parts)} parts of {path} have {count} tensors, {expected} expected")
    return replace(parts[0], tensors=tensors, file_size=sum(part.file_size for part in parts))


def _parts(first: GGUFFile) -> Iterator[GGUFFile]:
    """The file, followed by its other parts where it is the first of several."""
    _check_types(first)
    count = first.get(SPLIT_COUNT) or 1
    yield first
    if count == 1:
        return
    name = part_name(first.path)
    if first.get(SPLIT_NO) != 0 or name is None or (name.number, name.n_parts) != (1, count):
        raise ModelError(
            f"{first.path} is a part of a model in {count} files; give the first,"
            f" which must be named NAME-00001-of-{count:05}.gguf"
        )
    for number, path in enumerate(part_paths(first.path)[1:], start=1):
        part = read_gguf(path)
        _check_types(part)
        if (part.get(SPLIT_NO), part.get(SPLIT_COUNT)) != (number, count):
            raise ModelError(f"{part.path} says that it is part {part.get(SPLIT_NO)}, expected {number} of {count}")
        yield part


def _check_types(file: GGUFFile) -> None:
    """llama.cpp takes each of these keys in one type alone, and aborts on another in the later parts."""
    for key, kind in _TYPES.items():
        value = file.metadata.get(key)
        if value is not None and (value.is_array or value.type is not kind):
            found = f"{'a list of ' if value.is_array else ''}{value.type.name}"
            raise ModelError(f"{file.path}: {key} is {found}, expected {kind.name}; split or download it again")
