"""A model in several GGUF files, as llama.cpp splits them: names, keys, and whether they belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf

SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"
SPLIT_KEYS = (SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS)
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
    first = read_gguf(path)
    parts = tuple(_parts(first))
    names = {tensor.name for part in parts for tensor in part.tensors}
    if len(names) != sum(len(part.tensors) for part in parts):
        raise ModelError(f"the parts of {path} have tensors of the same name; they do not belong together")
    expected = first.get(SPLIT_TENSORS)
    if len(parts) > 1 and expected != len(names):
        raise ModelError(f"the {len(parts)} parts of {path} have {len(names)} tensors, {expected} expected")
    return parts


def read_whole(path: str | Path) -> GGUFFile:
    """What `read_parts` finds as one: the first part's keys, all bytes, all tensors, each at its offset in its file."""
    parts = read_parts(path)
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    return replace(parts[0], tensors=tensors, file_size=sum(part.file_size for part in parts))


def _parts(first: GGUFFile) -> Iterator[GGUFFile]:
    """The file, followed by its other parts where it is the first of several."""
    count = first.get(SPLIT_COUNT) or 1
    if not isinstance(count, int):
        raise ModelError(f"{first.path}: {SPLIT_COUNT} is {str(count)[:60]!r}, expected a number")
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
        if (part.get(SPLIT_NO), part.get(SPLIT_COUNT)) != (number, count):
            raise ModelError(f"{part.path} says that it is part {part.get(SPLIT_NO)}, expected {number} of {count}")
        yield part
