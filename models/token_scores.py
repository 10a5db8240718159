"""Scores of predicted tokens in a file: a line of JSON that says what they belong to, then rows of float64.

The line is filled with spaces to a multiple of 64 bytes. A file that is being made has the chunks that are done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError

_ALIGNMENT, _MAX_LINE = 64, 1 << 20


@dataclass(frozen=True)
class Table:
    """`n_chunks` chunks of `n_rows` rows, whose columns are named; `identity` says what they belong to."""

    n_chunks: int
    n_rows: int
    columns: tuple[str, ...]
    identity: Mapping[str, str]

    @property
    def head(self) -> bytes:
        """Everything before the first row."""
        sizes = {"chunks": self.n_chunks, "rows": self.n_rows, "columns": list(self.columns)}
        line = json.dumps({"nemotron_gguf": "token scores", **sizes, "identity": dict(self.identity)}, sort_keys=True)
        data = line.encode()
        return data + b" " * (-(len(data) + 1) % _ALIGNMENT) + b"\n"

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's rows."""
        return self.n_rows * len(self.columns) * 8


class ScoresFile:
    """`NAME.part`, to which chunks are appended; it gets its name with the last one. A context manager."""

    def __init__(self, path: Path, table: Table) -> None:
        """Begin it, or go on with what is there of the same table. Raises OSError."""
        self.path, self.table = path, table
        self.part = path.with_name(path.name + ".part")
        whole = path if path.exists() else self.part
        data = whole.read_bytes() if whole.exists() else b""
        head = table.head
        there = data[len(head) :] if data.startswith(head) else b""
        self.done = min(len(there) // table.chunk_bytes, table.n_chunks)
        self.data = there[: self.done * table.chunk_bytes]
        self._file = None
        if not (self.is_whole and whole == path):
            self._file = self.part.open("wb")
            self._file.write(head + self.data)
            self._file.flush()

    @property
    def is_whole(self) -> bool:
        """Whether all chunks are there."""
        return self.done == self.table.n_chunks

    def append(self, rows: bytes) -> None:
        """The next chunk."""
        assert self._file and len(rows) == self.table.chunk_bytes, len(rows)
        self._file.write(rows)
        self._file.flush()
        self.done += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.is_whole:
            self.part.replace(self.path)


def read_scores(path: Path) -> tuple[Table, npt.NDArray[np.float64]]:
    """A whole file: its table, and `(n_chunks * n_rows, n_columns) float64`. Raises ModelError for any other."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    line, _, _ = data[:_MAX_LINE].partition(b"\n")
    try:
        found = json.loads(line)
        table = Table(int(found["chunks"]), int(found["rows"]), tuple(found["columns"]), dict(found["identity"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no file of token scores; name one that `nemotron eval --keep` made") from error
    rows = data[len(table.head) :]
    if not data.startswith(table.head) or len(rows) != table.n_chunks * table.chunk_bytes:
        raise ModelError(f"{path} is not whole, or damaged; make it again")
    return table, np.frombuffer(rows, "<f8").reshape(-1, len(table.columns))
