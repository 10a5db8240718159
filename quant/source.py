"""A GGUF file on disk as a plan: every tensor read where it lies, and kept as it is until somebody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemotron_gguf.convert.plan import FilePlan, Rows, RowSource, TensorPlan
from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.file_bytes import FileBytes
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_parts import SPLIT_KEYS, read_parts
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo
from nemotron_gguf.quant.encode import Keep
from nemotron_gguf.quant.ggml_base import dequantize_rows


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


@dataclass(frozen=True)
class Decoded:
    """Rows of blocks as the F32 that they stand for (a RowSource)."""

    source: RowSource
    type: GGMLType = GGMLType.F32

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.source.n_rows

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        return self.source.n_per_row

    @property
    def stored_row_bytes(self) -> int:
        """Bytes that are read for a row."""
        return self.source.type.row_bytes(self.n_per_row)

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`; raises as the source."""
        return dequantize_rows(self.source.type, self.source.read(first, last), self.n_per_row).view(np.uint8)


def plan_of_file(path: str | Path) -> FilePlan:
    """The plan that writes a GGUF file again, byte for byte in its data.

    A model split over several files is given by its first part and becomes one file. Raises GGUFError for a file that
    is not sound, ModelError for parts that do not belong together and for a tensor without weights.
    """
    parts = read_parts(path)
    metadata = {key: value for key, value in parts[0].metadata.items() if key not in SPLIT_KEYS}
    tensors = tuple(_tensor(part, info) for part in parts for info in part.tensors)
    return FilePlan(metadata, tensors, parts[0].alignment)


def files_of(path: str | Path) -> list[Path]:
    """The file, or all parts of a split model that is given by its first part; raises as `plan_of_file`."""
    return [part.path for part in read_parts(path)]


def _tensor(file: GGUFFile, info: TensorInfo) -> TensorPlan:
    n_per_row = info.shape[-1]
    if not info.n_elements:
        raise ModelError(f"{file.path}: tensor {info.name} of shape {list(info.shape)} is empty; convert it again")
    rows = FileRows(
        FileBytes(file.path, file.file_size), info.offset, info.type, info.n_elements // n_per_row, n_per_row
    )
    return TensorPlan(info.name, info.shape, (rows,), Keep(info.type))
