"""Reading back what was written: chunk by chunk against its checksum, and whole files for their SHA-256."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from nemotron_gguf.convert.writer.chunks import Chunk
from nemotron_gguf.convert.writer.journal import Checksums
from nemotron_gguf.convert.writer.part_file import PIECE, PartFile
from nemotron_gguf.convert.writer.threads import Beside

FRAME = -1
"""Stands in the place of a chunk's number for what is in none: the header, and the zeros between tensors."""

Count: TypeAlias = Callable[[int, int], None]
"""Called with the bytes read and the bytes in all."""

Span: TypeAlias = tuple[int, int, int, int]
"""Offset and size in a file, number of the chunk, place of the file among those that want the chunk."""


def damaged_chunks(
    parts: Sequence[PartFile], chunks: Sequence[Chunk], sums: Mapping[int, Checksums], count: Count
) -> set[int]:
    """Numbers of the chunks that any of the parts does not hold, on the disk, as `sums` say."""
    for part in parts:
        part.forget_cache()
    each = _spans(len(parts), chunks)
    spans = [(part, span) for part, its_own in zip(parts, each, strict=True) for span in its_own]
    total, done, bad = sum(size for _, (_, size, _, _) in spans), 0, set()
    for part, (offset, size, number, place) in spans:
        checksum = 0
        for data in _pieces(part, offset, size):
            checksum = zlib.crc32(data, checksum)
        if checksum != sums[number][place]:
            bad.add(number)
        done += size
        count(done, total)
    return bad


class ReadBack:
    """Reading back a run's files, each from its beginning on, as far as they are on the disk: all of them in the end.

    What is read while the rest is still being made costs no time of its own at the end.
    """

    def __init__(self, parts: Sequence[PartFile], headers: Sequence[bytes], chunks: Sequence[Chunk]) -> None:
        spans = _spans(len(parts), chunks)
        self._files = [_File(*each) for each in zip(parts, headers, spans, strict=True)]
        self._total = sum(part.size for part in parts)

    def advance(self, sums: Mapping[int, Checksums], count: Count = lambda _done, _total: None) -> None:
        """Go on up to the first chunk of each file that is not in `sums`."""
        before = 0
        with Beside() as beside:
            for file in self._files:
                file.advance(sums, beside, partial(_count_from, count, before, self._total))
                before += file.part.size

    def finish(self, sums: Mapping[int, Checksums], count: Count) -> tuple[tuple[str, ...], set[int]]:
        """The SHA-256 of every part, and the numbers of chunks that are not what was written, all being in `sums`.

        FRAME is among them where a header or the zeros between tensors are not as planned.
        """
        self.advance(sums, count)
        with Beside() as beside:
            digests = tuple(file.end(beside) for file in self._files)
        return digests, set[int]().union(*(file.bad for file in self._files))


def _count_from(count: Count, before: int, total: int, done: int) -> None:
    count(before + done, total)


class _File:
    """One file, read up to `position`; `bad` as `ReadBack` returns it."""

    def __init__(self, part: PartFile, header: bytes, spans: Sequence[Span]) -> None:
        self.part, self._header, self._left = part, header, deque(spans)
        self.position, self.bad = 0, set[int]()
        self._sha256 = hashlib.sha256()

    def advance(self, sums: Mapping[int, Checksums], beside: Beside, count: Callable[[int], None]) -> None:
        """Read the chunks that come next, while `sums` has them."""
        if self._left and self._left[0][2] in sums:
            self.part.forget_cache()
        while self._left and self._left[0][2] in sums:
            offset, size, number, place = self._left.popleft()
            self._read_frame(offset, beside)
            checksum = 0
            for data in self._fed(_pieces(self.part, offset, size), beside):
                checksum = zlib.crc32(data, checksum)
            if checksum != sums[number][place]:
                self.bad.add(number)
            self.position = offset + size
            count(self.position)

    def end(self, beside: Beside) -> str:
        """Read what is behind the last chunk; returns the digest of everything."""
        assert not self._left
        self._read_frame(self.part.size, beside)
        return self._sha256.hexdigest()

    def _read_frame(self, end: int, beside: Beside) -> None:
        """Read what no chunk has, up to `end`: the rest of the header, then zeros."""
        found = b"".join(self._fed(_pieces(self.part, self.position, end - self.position), beside))
        if found != self._header[self.position : end].ljust(end - self.position, b"\0"):
            self.bad.add(FRAME)
        self.position = end

    def _fed(self, pieces: Iterator[bytes], beside: Beside) -> Iterator[bytes]:
        """The pieces again, each of them digested meanwhile."""
        for data in pieces:
            beside.finish()
            beside.start(partial(self._sha256.update, data))
            yield data
        beside.finish()


def _spans(n_files: int, chunks: Sequence[Chunk]) -> list[list[Span]]:
    """What each file should hold, by offset."""
    spans: list[list[Span]] = [[] for _ in range(n_files)]
    for chunk in chunks:
        for place, wanted in enumerate(chunk.wanted):
            spans[wanted.file].append((*wanted.span(chunk.first, chunk.last), chunk.number, place))
    for its_own in spans:
        its_own.sort()
    return spans


def _pieces(part: PartFile, offset: int, size: int) -> Iterator[bytes]:
    """A stretch of a file; ends early where the file does."""
    end = offset + size
    while offset < end:
        data = part.read(offset, min(PIECE, end - offset))
        if not data:
            return
        yield data
        offset += len(data)
