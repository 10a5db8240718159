"""The header of a GGUF file that is still at the Hub, checked before the gigabytes behind it are fetched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.byte_source import ByteSource
from nemotron_gguf.models.errors import GGUFError
from nemotron_gguf.models.gguf_parts import SPLIT_COUNT, SPLIT_NO, part_name
from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf_header

_AHEAD = 4 << 20  # bytes that are asked for at a time; a vocabulary of 131072 tokens makes a header of some 6 MB


class _Stream(io.RawIOBase):
    """A source read from its beginning to its end."""

    def __init__(self, source: ByteSource) -> None:
        self._source, self._at = source, 0

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill as much of a buffer as there are bytes left."""
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._source.size - self._at)
        view[:count] = self._source.read(self._at, count)
        self._at += count
        return count


def read_remote_header(source: ByteSource) -> GGUFFile:
    """The header of a GGUF file, wherever it lies; ConvertError for what is no sound one."""
    try:
        with io.BufferedReader(_Stream(source), _AHEAD) as stream:
            return read_gguf_header(stream, source.size, Path(source.name))
    except GGUFError as error:
        raise ConvertError(str(error)) from error


def check_gguf(source: ByteSource, name: str) -> GGUFFile:
    """The header of a file called `name`, which is the part of a model that its name says.

    Raises ConvertError for what is no sound GGUF, and what reading raises.
    """
    file = read_remote_header(source)
    part = part_name(Path(name))
    number, count = (part.number - 1, part.n_parts) if part else (0, 1)
    found_no, found_count = file.get(SPLIT_NO), file.get(SPLIT_COUNT)
    alone = not part and found_count in (None, 0, 1)
    if not alone and (found_no, found_count) != (number, count):
        raise ConvertError(
            f"{source.name} says that it is part {found_no} (from 0) of {found_count}, expected {number} of {count} by"
            " its name; tell its author"
        )
    return file
