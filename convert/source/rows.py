"""Row sources made of other row sources, and of none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemotron_gguf.convert.plan import Rows, RowSource
from nemotron_gguf.models.ggml import GGMLType


@dataclass(frozen=True)
class InterleavedHeads:
    """Rows whose two halves are interleaved within each head: 0, d/2, 1, d/2 + 1, … for a head of d rows.

    llama.cpp's converter does so to queries and keys of the Llama family, whose rotary embedding wants it. Here nothing
    rotates and products of queries and keys stay what they were, but files are the same only with it.
    """

    source: RowSource
    head_dim: int

    def __post_init__(self) -> None:
        assert self.head_dim % 2 == 0, self.head_dim
        assert self.source.n_rows % self.head_dim == 0, self.source.n_rows

    @property
    def type(self) -> GGMLType:
        """Storage type of the rows."""
        return self.source.type

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.source.n_rows

    @property
    def n_per_row(self) -> int:
        """Weights in a row."""
        return self.source.n_per_row

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`; reads the heads they belong to."""
        low = first // self.head_dim * self.head_dim
        high = -(-last // self.head_dim) * self.head_dim
        rows = np.arange(first, last)
        place = rows % self.head_dim
        wanted = rows - place + place // 2 + place % 2 * (self.head_dim // 2)
        taken: Rows = self.source.read(low, high)[wanted - low]
        return taken


@dataclass(frozen=True)
class Zeros:
    """Rows that no checkpoint has: what a model does without, and llama.cpp does not."""

    n_rows: int
    n_per_row: int
    type: GGMLType = GGMLType.F32

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last`, all zero."""
        return np.zeros((last - first, self.type.row_bytes(self.n_per_row)), np.uint8)
