"""The older .dat format of llama.cpp's importance matrices: entries, a chunk count, the data set's name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.file_bytes import FileBytes
from nemotron_gguf.models.imatrix.matrix import Imatrix, ImatrixEntry

MAX_ENTRIES = 1_000_000


def read_legacy(name: str, path: Path, size: int, file: BinaryIO) -> Imatrix:
    """Read a file of `size` bytes from its beginning; values are read on demand. Raises ModelError."""
    return _Cursor(name, path, size, file).read()


class _Cursor:
    """A cursor over a .dat file that never reads, or allocates, past its end."""

    def __init__(self, name: str, path: Path, size: int, file: BinaryIO) -> None:
        self.name, self.source, self.file, self.at = name, FileBytes(path, size), file, 0

    def read(self) -> Imatrix:
        n_entries = self.integer("the number of entries")
        if not 1 <= n_entries <= MAX_ENTRIES:
            raise self.fail(f"it claims {n_entries} entries, 1 to {MAX_ENTRIES} expected")
        entries = dict(self.entry(index) for index in range(n_entries))
        left = self.source.size - self.at
        chunk_count = self.integer("the chunk count") if left >= 4 else 0  # older files end here
        length = self.integer("the data set's length") if left >= 8 else 0
        dataset = self.string(length, "the data set's name") if 0 < length <= left - 8 else ""
        return Imatrix(self.name, entries, (dataset,) if dataset else (), chunk_count)

    def entry(self, index: int) -> tuple[str, ImatrixEntry]:
        what = f"entry {index}"
        weight = self.string(self.integer(f"the name's length of {what}"), f"the name of {what}")
        n_calls, n_values = self.integer(f"the calls of {what}"), self.integer(f"the size of {what}")
        if n_values < 1:
            raise self.fail(f"{weight} claims {n_values} values, at least 1 expected")
        start = self.advance(4 * n_values, f"the values of {weight}")
        self.file.seek(self.at)
        return weight, ImatrixEntry(self.source, start, n_values, np.array([max(n_calls, 1)], dtype=np.float32))

    def fail(self, message: str) -> ModelError:
        return ModelError(f"{self.name} is no sound importance matrix (neither GGUF nor .dat): {message}")

    def advance(self, count: int, what: str) -> int:
        start, left = self.at, self.source.size - self.at
        if not 0 <= count <= left:
            raise self.fail(f"{what} would take {count} bytes at byte {start}, {left} are left")
        self.at += count
        return start

    def take(self, count: int, what: str) -> bytes:
        self.advance(count, what)
        data = self.file.read(count)
        if len(data) != count:
            raise self.fail(f"{what} could not be read in full: the file changed while it was being read")
        return data

    def integer(self, what: str) -> int:
        value: int = struct.unpack("<i", self.take(4, what))[0]
        return value

    def string(self, length: int, what: str) -> str:
        return self.take(length, what).split(b"\0")[0].decode("utf-8", "surrogateescape")
