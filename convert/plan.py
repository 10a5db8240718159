"""The plan of a GGUF file: every tensor's place, what it is made of and how, before a single weight is read.

Rows travel as raw bytes, an array `(n_rows, row_bytes) uint8` with the storage type told beside it, so that BF16 from a
checkpoint, F32 after a transform and blocks copied from another file are all the same kind of thing to the writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.widths.resize import Resize
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value
from nemotron_gguf.models.gguf_writer import DEFAULT_ALIGNMENT, Header, encode_header, tensor_bytes

Rows: TypeAlias = npt.NDArray[np.uint8]
"""`(n_rows, row_bytes) uint8`: rows of a tensor in some storage type."""

Transform: TypeAlias = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""`(n, n_per_row) float32` to the same shape, each value on its own terms: chunks of rows must not matter."""


class RowSource(Protocol):
    """Rows that can be read on demand, by several threads at once."""

    @property
    def type(self) -> GGMLType:
        """Storage type of the rows."""
        ...

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        ...

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`, as `(last - first, type.row_bytes(n_per_row)) uint8`.

        Raises the room's error when the file is shorter than promised or changed.
        """
        ...


class Encoder(Protocol):
    """From rows in one storage type to rows in another."""

    @property
    def type(self) -> GGMLType:
        """Storage type of what comes out."""
        ...

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:
        """Encode whole rows; `first_row` is the place of the first one in the tensor (which expert, which weight).

        Returns `(n, self.type.row_bytes(n_per_row)) uint8`. Must give the same bytes however a tensor is cut in chunks.
        """
        ...


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of a file: `sources` are stacked along the rows, transformed as float32, resized, then encoded.

    `shape` is row-major, outermost dimension first, as it is in the file; its product without the last dimension is
    the number of rows. `resize` tells where the sources have others.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[RowSource, ...]
    encoder: Encoder
    transform: Transform | None = None
    resize: Resize | None = None

    def __post_init__(self) -> None:
        assert self.place(sum(source.n_rows for source in self.sources)) == self.n_rows, self.name
        n_per_row = self.resize.columns.old if self.resize else self.n_per_row
        assert all(source.n_per_row == n_per_row for source in self.sources), self.name
        assert self.resize is None or self.resize.columns.new == self.n_per_row, self.name

    @property
    def type(self) -> GGMLType:
        """Storage type in the file."""
        return self.encoder.type

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        return self.shape[-1]

    @property
    def n_rows(self) -> int:
        """Rows in the file."""
        return prod(self.shape[:-1])

    def place(self, row: int) -> int:
        """The row of the file at which row `row` of all sources together begins."""
        return row if self.resize is None else self.resize.place(row)

    @property
    def nbytes(self) -> int:
        """Bytes in the file, without padding."""
        return tensor_bytes(self.shape, self.type)


@dataclass(frozen=True)
class FilePlan:
    """A whole file: keys and tensors in their order. Everything else follows from these.

    `notes` are sentences for whoever makes the file; they are no part of it.
    """

    metadata: Mapping[str, Value]
    tensors: tuple[TensorPlan, ...]
    alignment: int = DEFAULT_ALIGNMENT
    notes: tuple[str, ...] = ()

    @cached_property
    def header(self) -> Header:
        """The encoded header and every tensor's absolute offset."""
        return encode_header(self.metadata, ((t.name, t.shape, t.type) for t in self.tensors), self.alignment)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the header, that is of all keys and of every tensor's name, shape, type and place."""
        return hashlib.sha256(self.header.data).hexdigest()

    def describe(self) -> dict[str, object]:
        """The plan for `--dry-run --json`; `bytes` is the size of the file."""
        rows = [{"name": t.name, "shape": list(t.shape), "type": t.type.name, "bytes": t.nbytes} for t in self.tensors]
        return {"tensors": rows, "bytes": self.header.file_size}
