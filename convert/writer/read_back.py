"""Reading back what was written: chunk by chunk against its checksum, and whole files for their SHA-256."""

from __future__ import annotations

import hashlib
import zlib
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
"""Offset and size in a file, number of the chunk, checksum expected."""


def damaged_chunks(
    parts: Sequence[PartFile], chunks: Sequence[Chunk], sums: Mapping[int, Checksums], count: Count
) -> set[int]:
    """Numbers of the chunks that any of the parts does not hold, on the disk, as `sums` say."""
    for part in parts:
        part.forget_cache()
    each = _spans(len(parts), chunks, sums)
    spans = [(part, span) for part, its_own in zip(parts, each, strict=True) for span in its_own]
    total, done, bad = sum(size for _, (_, size, _, _) in spans), 0, set()
    for part, (offset, size, number, expected) in spans:
        checksum = 0
        for data in _pieces(part, offset, size):
            checksum = zlib.crc32(data, checksum)
        if checksum != expected:
            bad.add(number)
        done += size
        count(done, total)
    return bad


def read_back(
    parts: Sequence[PartFile],
    headers: Sequence[bytes],
    chunks: Sequence[Chunk],
    sums: Mapping[int, Checksums],
    count: Count,
) -> tuple[tuple[str, ...], set[int]]:
    """The SHA-256 of every part, read from the disk, and the numbers of chunks that are not what was written.

    FRAME is among them where a header or the zeros between tensors are not as planned.
    """
    total, before = sum(part.size for part in parts), 0
    digests: list[str] = []
    bad: set[int] = set()
    for part, header, spans in zip(parts, headers, _spans(len(parts), chunks, sums), strict=True):
        digest, found = _read_part(part, header, spans, partial(_count_from, count, before, total))
        digests.append(digest)
        bad |= found
        before += part.size
    return tuple(digests), bad


def _count_from(count: Count, before: int, total: int, done: int) -> None:
    count(before + done, total)


def _read_part(
    part: PartFile, header: bytes, spans: Sequence[Span], count: Callable[[int], None]
) -> tuple[str, set[int]]:
    part.forget_cache()
    bad: set[int] = set()
    position = 0
    with Beside() as beside:
        digest = _Digest(beside)
        for offset, size, number, expected in (*spans, (part.size, 0, FRAME, 0)):
            between = b"".join(digest.fed(_pieces(part, position, offset - position)))
            if between != header[position:offset].ljust(offset - position, b"\0"):
                bad.add(FRAME)
            checksum = 0
            for data in digest.fed(_pieces(part, offset, size)):
                checksum = zlib.crc32(data, checksum)
            if checksum != expected:
                bad.add(number)
            position = offset + size
            count(position)
        return digest.hex(), bad


class _Digest:
    """SHA-256 taken by a thread beside, of pieces as they pass by."""

    def __init__(self, beside: Beside) -> None:
        self._beside, self._sha256 = beside, hashlib.sha256()

    def fed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces again, each of them digested meanwhile."""
        for data in pieces:
            self._beside.finish()
            self._beside.start(partial(self._sha256.update, data))
            yield data

    def hex(self) -> str:
        """The digest of everything that was fed."""
        self._beside.finish()
        return self._sha256.hexdigest()


def _spans(n_files: int, chunks: Sequence[Chunk], sums: Mapping[int, Checksums]) -> list[list[Span]]:
    """What each file should hold, by offset."""
    spans: list[list[Span]] = [[] for _ in range(n_files)]
    for chunk in chunks:
        for wanted, checksum in zip(chunk.wanted, sums[chunk.number], strict=True):
            spans[wanted.file].append((*wanted.span(chunk.first, chunk.last), chunk.number, checksum))
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
