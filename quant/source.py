"""A GGUF file on disk as a plan: every tensor read where it lies, and kept as it is until somebody says otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.convert.plan import FilePlan, Rows, TensorPlan
from nemotron_gguf.models.file_bytes import FileBytes
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo, read_gguf
from nemotron_gguf.quant.encode import Keep
from nemotron_gguf.quant.errors import QuantError

SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"
SPLIT_KEYS = (SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS)


@dataclass(frozen=True)
class FileRows:
    """The rows of one tensor of a file."""

    source: FileBytes
    offset: int
    type: GGMLType
    n_rows: int
    n_per_row: int

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`; raises ModelError when the file changed."""
        row_bytes = self.type.row_bytes(self.n_per_row)
        raw = self.source.read(self.offset + first * row_bytes, (last - first) * row_bytes)
        return raw.reshape(last - first, row_bytes)


def plan_of_file(path: str | Path) -> FilePlan:
    """The plan that writes a GGUF file again, byte for byte in its data.

    A model split over several files is given by its first part and becomes one file. Raises GGUFError for a file that
    is not sound, QuantError for parts that do not belong together.
    """
    first = read_gguf(path)
    parts = list(_parts(first))
    metadata = {key: value for key, value in first.metadata.items() if key not in SPLIT_KEYS}
    tensors = tuple(_tensor(part, info) for part in parts for info in part.tensors)
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise QuantError(f"the parts of {path} have tensors of the same name; they do not belong together")
    expected = first.get(SPLIT_TENSORS)
    if len(parts) > 1 and expected != len(tensors):
        raise QuantError(f"the {len(parts)} parts of {path} have {len(tensors)} tensors, {expected} expected")
    return FilePlan(metadata, tensors, first.alignment)


def files_of(path: str | Path) -> list[Path]:
    """The file, or all parts of a split model that is given by its first part; raises as `plan_of_file`."""
    return [part.path for part in _parts(read_gguf(path))]


def _parts(first: GGUFFile) -> Iterator[GGUFFile]:
    """The file, followed by its other parts where it is the first of several."""
    count = first.get(SPLIT_COUNT) or 1
    assert isinstance(count, int | float | str | list)
    if not isinstance(count, int):
        raise QuantError(f"{first.path}: {SPLIT_COUNT} is {count!r}, expected a number")
    yield first
    if count == 1:
        return
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", first.path.name, re.ASCII)
    if first.get(SPLIT_NO) != 0 or match is None or (int(match[2]), int(match[3])) != (1, count):
        raise QuantError(
            f"{first.path} is a part of a model in {count} files; give the first,"
            f" which must be named NAME-00001-of-{count:05}.gguf"
        )
    for number in range(1, count):
        part = read_gguf(first.path.with_name(f"{match[1]}-{number + 1:05}-of-{count:05}.gguf"))
        if (part.get(SPLIT_NO), part.get(SPLIT_COUNT)) != (number, count):
            raise QuantError(f"{part.path} says that it is part {part.get(SPLIT_NO)}, expected {number} of {count}")
        yield part


def _tensor(file: GGUFFile, info: TensorInfo) -> TensorPlan:
    n_per_row = info.shape[-1]
    rows = FileRows(
        FileBytes(file.path, file.file_size), info.offset, info.type, info.n_elements // n_per_row, n_per_row
    )
    return TensorPlan(info.name, info.shape, (rows,), Keep(info.type))
