"""Where a checkpoint's bytes come from: a file of this machine here, one of the Hub in `remote`. All look the same.

A source is bytes at an offset, for several threads at once, and knows what binds a run to it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nemotron_gguf.convert.errors import ConvertError, Interrupted

SINGLE = "model.safetensors"  # the weights of a checkpoint in one file
INDEX = "model.safetensors.index.json"  # or which of several files has which tensor


class ByteSource(Protocol):
    """A file that is read at any offset, by several threads at once."""

    @property
    def name(self) -> str:
        """What to call it in messages: a path, or `org/name: model.safetensors`."""
        ...

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    @property
    def in_flight(self) -> int:
        """How many reads are worth having under way at once."""
        ...

    def read(self, offset: int, size: int) -> bytearray:
        """Exactly `size` bytes from an absolute offset, in a buffer of its own.

        Raises Interrupted for what may be cured by itself, ConvertError where the file is not what it was.
        """
        ...

    def identity(self) -> dict[str, object]:
        """What tells this source from another or a changed one; plain values that JSON can hold."""
        ...

    def close(self) -> None:
        """Give the file back; reading afterwards is an error."""
        ...


class Files(Protocol):
    """The files of a checkpoint by their plain names."""

    @property
    def name(self) -> str:
        """What to call the place in messages."""
        ...

    def names(self) -> Iterable[str]:
        """The files at its top level, sorted."""
        ...

    def open(self, name: str) -> ByteSource:
        """One of them, to be read; ConvertError where it cannot be."""
        ...

    def close(self) -> None:
        """Let nobody wait any longer for what is being opened."""
        ...


class LocalFile:
    """A file of this machine, open by its descriptor until it is closed or forgotten."""

    in_flight = 2

    def __init__(self, path: Path, identity: Mapping[str, object] | None = None) -> None:
        """Open a file. `identity` says what it is where that is known better than by its time of change.

        Raises ConvertError where the file cannot be opened.
        """
        self.name = str(path)
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self._close = weakref.finalize(self, os.close, self._fd)
            status = os.fstat(self._fd)
        except OSError as error:
            raise ConvertError(f"cannot read {path}: {error.strerror or error}") from error
        self.size = status.st_size
        self._identity = dict(identity or {"name": path.name, "size": self.size, "mtime_ns": status.st_mtime_ns})

    def identity(self) -> dict[str, object]:
        """The file's name, size and time of change, or what was given."""
        return dict(self._identity)

    def close(self) -> None:
        """Give the file back; reading afterwards is an error."""
        self._close()
        self._fd = -1  # the number may soon be another file's

    def read(self, offset: int, size: int) -> bytearray:
        """Exactly `size` bytes from an absolute offset, in a buffer of its own."""
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        try:
            while done < size:
                count = self._read_some(view[done:], offset + done)
                if count == 0:
                    raise ConvertError(
                        f"{self.name} ends at byte {offset + done}, {size - done} more expected; it is truncated or"
                        " changed while it was read: download it again"
                    )
                done += count
        except OSError as error:
            raise Interrupted(f"reading {self.name} failed: {error.strerror or error}") from error
        return buffer

    def _read_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._fd, [view], offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            data = os.read(self._fd, len(view))
        view[: len(data)] = data
        return len(data)


@dataclass(frozen=True)
class LocalFolder:
    """The files of a folder."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.path)

    def names(self) -> list[str]:
        """The folder's files, sorted."""
        try:
            return sorted(path.name for path in self.path.iterdir() if path.is_file())
        except OSError as error:
            raise ConvertError(f"cannot read {self.path}: {error.strerror or error}") from error

    def open(self, name: str) -> LocalFile:
        """One of the files."""
        return LocalFile(self.path / name)

    def close(self) -> None:
        """Nothing is held."""
