"""A reference's logits in a file, bit for bit as the model gave them: the form of this project's own.

A row is a token's logits, or what goes into the model's output matrix, which gives them: fewer numbers by far.

| bytes | what |
| --- | --- |
| 8 | `NMTRNREF` |
| 4 + 4 | version, length of the JSON that follows, little-endian as everything |
| … | JSON: what the logits belong to, sizes |
| … | zeros up to a multiple of 64 |
| n_chunks × n_ctx × 4 | the tokens, int32 |
| … | for each chunk `n_rows` × `n_columns` float32, then the CRC-32 of these bytes |

A file that is being made has the chunks that are done, and goes on from there.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError, printable

MAGIC, VERSION = b"NMTRNREF", 1
_SIZES, _CRC = struct.Struct("<II"), struct.Struct("<I")
_ALIGNMENT, _MAX_JSON = 64, 1 << 20
_MAX = {"n_ctx": 1 << 24, "n_rows": 1 << 24, "n_vocab": 1 << 24, "n_columns": 1 << 24, "n_chunks": 1 << 24}


@dataclass(frozen=True, eq=False)
class Layout:
    """What a file holds: `n_rows` rows of `n_columns` numbers for each chunk of `n_ctx` tokens.

    As many numbers as `n_vocab` are the logits; fewer are inputs of the output matrix. `identity`: what they belong to
    (file, setting), names to words. `tokens` is `(n_chunks, n_ctx) int32`.
    """

    n_rows: int
    n_vocab: int
    n_columns: int
    tokens: npt.NDArray[np.int32]
    identity: Mapping[str, str]

    @property
    def head(self) -> bytes:
        """Everything before the first chunk."""
        n_chunks, n_ctx = self.tokens.shape
        sizes = {"n_ctx": n_ctx, "n_chunks": n_chunks, "n_rows": self.n_rows, "n_vocab": self.n_vocab}
        sizes["n_columns"] = self.n_columns
        text = json.dumps({**sizes, "identity": dict(self.identity)}, sort_keys=True).encode()
        start = MAGIC + _SIZES.pack(VERSION, len(text)) + text
        return start + bytes(-len(start) % _ALIGNMENT) + np.ascontiguousarray(self.tokens, "<i4").tobytes()

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk's rows with their sum."""
        return self.n_rows * self.n_columns * 4 + _CRC.size

    @property
    def file_size(self) -> int:
        """Bytes of a whole file."""
        return len(self.head) + len(self.tokens) * self.chunk_bytes


def read_layout(path: Path) -> Layout:
    """What a file says it holds. Raises ModelError for a file that is none of these."""
    try:
        with path.open("rb") as file:
            return _layout(path, file)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def _layout(path: Path, file: BinaryIO) -> Layout:
    def bad(what: str) -> ModelError:
        return ModelError(f"{path} is no file of reference logits ({what}); name another --cache, or remove it")

    if file.read(len(MAGIC)) != MAGIC:
        raise bad("it begins otherwise")
    sizes = file.read(_SIZES.size)
    version, length = _SIZES.unpack(sizes) if len(sizes) == _SIZES.size else (0, 0)
    if version != VERSION or length > _MAX_JSON:
        raise bad(f"version {version}, expected {VERSION}")
    try:
        found = json.loads(file.read(length))
        numbers = {name: _number(found[name], most) for name, most in _MAX.items()}
        identity = {str(key): str(value) for key, value in found["identity"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad(f"its description is damaged: {printable(str(error))}") from error
    file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
    size = numbers["n_chunks"] * numbers["n_ctx"] * 4
    if size > path.stat().st_size:
        raise bad("it ends too early")
    tokens = np.frombuffer(file.read(size), "<i4").reshape(numbers["n_chunks"], numbers["n_ctx"])
    return Layout(numbers["n_rows"], numbers["n_vocab"], numbers["n_columns"], tokens, identity)


def _number(value: Any, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{value!r} is no number from 1 to {most}")
    return value


class LogitsReader:
    """A file's chunks, read by several threads; a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError for a file that is none, or not whole."""
        self.path, self.layout = path, read_layout(path)
        if path.stat().st_size < self.layout.file_size:
            raise ModelError(
                f"{path} ends too early: {path.stat().st_size} of {self.layout.file_size} bytes; remove it"
            )
        self._offset = len(self.layout.head)
        self._file = path.open("rb")

    def chunk(self, index: int) -> npt.NDArray[np.float32]:
        """The rows of a chunk, `(n_rows, n_columns) float32`. Raises ModelError where they are damaged."""
        layout = self.layout
        self._file.seek(self._offset + index * layout.chunk_bytes)
        data = self._file.read(layout.chunk_bytes)
        if not _is_sound(data, layout):
            raise ModelError(f"{self.path} is damaged at chunk {index}; remove it, and it is made again")
        return np.frombuffer(data, "<f4", layout.n_rows * layout.n_columns).reshape(layout.n_rows, layout.n_columns)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def begin(path: Path, layout: Layout) -> int:
    """Begin a file, or go on with one that has the very same head; how many chunks are there and sound.

    What lies behind them is cut off, so that chunks can be appended. Raises OSError.
    """
    head = layout.head
    with path.open("r+b" if path.exists() else "w+b") as file:
        if file.read(len(head)) != head:
            file.seek(0)
            file.truncate()
            file.write(head)
        done = next(
            (n for n in range(len(layout.tokens)) if not _is_sound(file.read(layout.chunk_bytes), layout)), None
        )
        done = len(layout.tokens) if done is None else done
        file.truncate(len(head) + done * layout.chunk_bytes)
    return done


def append(file: BinaryIO, rows: npt.NDArray[np.float32]) -> None:
    """The next chunk, `(n_rows, n_columns) float32`. Raises OSError."""
    data = np.ascontiguousarray(rows, "<f4")
    file.write(data.data)
    file.write(_CRC.pack(zlib.crc32(data.data)))


def _is_sound(data: bytes, layout: Layout) -> bool:
    """Whether these are a whole chunk and its sum."""
    view = memoryview(data)
    return len(data) == layout.chunk_bytes and zlib.crc32(view[: -_CRC.size]) == _CRC.unpack(view[-_CRC.size :])[0]
