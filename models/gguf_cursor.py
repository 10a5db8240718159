"""Bytes of a GGUF header, read in large slices and taken in order: never past the end of the file, nor of reason."""

from __future__ import annotations

from pathlib import Path
from struct import Struct
from typing import BinaryIO

from nemotron_gguf.models.errors import GGUFError, printable

MAX_STRING = 16 << 20  # bytes; the longest real one is a chat template of a few tens of kB
MAX_HEADER = 64 << 20  # bytes; a vocabulary of 262,144 tokens with its merges takes some 17 MB
_FIRST, _SLICE = 4096, 1 << 20  # bytes that are read at a time: few, until there is reason to believe in more
_U32, _U64 = Struct("<I"), Struct("<Q")


class Cursor:
    """A place in the header of a file of `size` bytes that is open at its beginning; `path` is for messages."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self._base, self._window, self._next = 0, b"", 0  # the window begins at byte `_base` of the file

    @property
    def at(self) -> int:
        """The byte of the file that is taken next."""
        return self._base + self._next

    def fail(self, message: str) -> GGUFError:
        """The error that tells what is wrong with the file, on one line without control characters."""
        return GGUFError(f"{self.path} is no sound GGUF file: {printable(message)}")

    def take(self, count: int, what: str) -> bytes:
        """The next bytes. Raises GGUFError where the file, or any sane header, ends before."""
        self._reach(count, what)
        start = self._next
        self._next += count
        return self._window[start : self._next]

    def u32(self, what: str) -> int:
        """The next 32-bit number."""
        value: int = _U32.unpack(self.take(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        """The next 64-bit number."""
        value: int = _U64.unpack(self.take(8, what))[0]
        return value

    def string(self, what: str, limit: int = MAX_STRING) -> str:
        """The next string, of at most `limit` bytes; bytes that are no UTF-8 become surrogates."""
        length = self.u64(what)
        if length > limit:
            raise self.fail(f"{what} claims {length} bytes, at most {limit} expected")
        return self.take(length, what).decode("utf-8", "surrogateescape")

    def strings(self, count: int, what: str) -> list[str]:
        """The next strings, hundreds of thousands of them in a fraction of a second."""
        items: list[str] = []
        while len(items) < count:
            self._whole_strings(items, count)
            if len(items) < count:  # the next one is not whole in the window, or too long
                items.append(self.string(what))
        return items

    def _whole_strings(self, items: list[str], count: int) -> None:
        """Add the strings that are whole in the window, up to `count`."""
        window, start, append, length_at = self._window, self._next, items.append, _U64.unpack_from
        last = len(window) - 8
        for _ in range(count - len(items)):
            if start > last:
                break
            stop = start + 8 + length_at(window, start)[0]
            if stop > last + 8:
                break
            append(window[start + 8 : stop].decode("utf-8", "surrogateescape"))
            start = stop
        self._next = start

    def _reach(self, count: int, what: str) -> None:
        """Have the next `count` bytes in the window."""
        have = len(self._window) - self._next
        if count <= have:
            return
        if count > self.size - self.at:
            raise self.fail(
                f"it ends at byte {self.size} inside {what} ({count} bytes wanted at byte {self.at});"
                " it is truncated or damaged: download or convert it again"
            )
        if self.at + count > MAX_HEADER:
            raise self.fail(f"its header goes on after {MAX_HEADER} bytes, at {what}; no model's is that long")
        wanted = min(max(count - have, _SLICE if self._window else _FIRST), self.size - self.at - have)
        more = self.file.read(wanted)
        if len(more) != wanted:
            raise self.fail(f"{what} could not be read in full: the file changed while it was being read")
        self._base, self._window, self._next = self.at, self._window[self._next :] + more, 0
