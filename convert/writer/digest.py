"""Checksums beside files: NAME.gguf.sha256, one line as `sha256sum` writes it and `sha256sum -c` checks it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.writer.part_file import sync_folder

PIECE = 8 << 20  # bytes read at a time
_MAX_BYTES = 1 << 12  # of a sidecar: 67 and a file's name, of which no system allows more than a few hundred
_LINE = re.compile(rb"(\\?)([0-9A-Fa-f]{64}) [ *]([^\r\n]+)\r?\n?")  # GNU coreutils: a backslash tells of escapes


def sidecar_path(path: Path) -> Path:
    """Where the checksum of a file is kept: beside it."""
    return path.with_name(path.name + ".sha256")


def write_sidecar(path: Path, digest: str) -> None:
    """Keep the SHA-256 of a file beside it, in place of any other; complete or not there at all, whatever happens.

    Raises Interrupted where the disk does not take it.
    """
    assert re.fullmatch(r"[0-9a-f]{64}", digest), digest
    target = sidecar_path(path)
    partial = target.with_name(target.name + ".new")
    mark, name = _escaped(path.name)
    try:
        try:
            with partial.open("wb") as file:
                file.write(b"%s%s  %s\n" % (mark, digest.encode(), name))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise Interrupted(f"writing {target} failed: {error.strerror or error}") from error


def read_sidecar(path: Path) -> str:
    """The SHA-256 that is kept beside a file, in small letters.

    Raises ConvertError where there is none, or anything but the one line that speaks of this file.
    """
    source = sidecar_path(path)
    try:
        if source.exists() and not source.is_file():
            raise ConvertError(f"{source} is no file, expected the checksum of {path.name}")
        with source.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConvertError(f"cannot read {source}: {error.strerror or error}") from error
    match = _LINE.fullmatch(raw) if len(raw) <= _MAX_BYTES else None
    if match is None:
        raise ConvertError(f"{source} is no checksum; expected one line: 64 hexadecimal digits, two spaces, a name")
    if (match[1], match[3]) != _escaped(path.name):
        found = match[3].decode("utf-8", "replace")
        raise ConvertError(f"{source} is the checksum of {found!r}, expected that of {path.name!r}")
    return match[2].decode("ascii").lower()


def sha256_of(path: Path, progress: Callable[[int, int], None] | None = None) -> str:
    """SHA-256 of a file, in small hexadecimal letters; `progress` hears the bytes done and the bytes in all.

    Raises ConvertError for what cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    for piece, total in read_pieces(path):
        digest.update(piece)
        done += len(piece)
        if progress:
            progress(done, total)
    return digest.hexdigest()


def read_pieces(path: Path, sizes: Iterable[int] | None = None) -> Iterator[tuple[memoryview, int]]:
    """A file from its beginning to its end, in pieces of `sizes` where given; with each, the bytes of the whole file.

    The piece lies in memory that the next one reuses. Where the system can be asked for it, it is the disk that is
    read and not the memory of an earlier reading or writing. Raises ConvertError for a file that cannot be read, or is
    not as long as `sizes` together.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConvertError(f"{path} is no file, so there is nothing to take a checksum of")
        with path.open("rb", buffering=0) as file:
            total = os.fstat(file.fileno()).st_size
            _forget(file.fileno())
            buffer = memoryview(bytearray(min(PIECE, total)))
            for size in cut(total) if sizes is None else sizes:
                piece = buffer[:size]
                _fill(path, file.readinto, piece, size)
                yield piece, total
            if file.read(1):
                raise _changed(path)
    except OSError as error:
        raise ConvertError(f"cannot read {path}: {error.strerror or error}") from error


def cut(size: int, unit: int = 1) -> Iterator[int]:
    """Sizes of pieces, as large as they may be, that together are `size` bytes and hold whole units."""
    step = PIECE - PIECE % unit
    return (min(step, size - begin) for begin in range(0, size, step))


def _fill(path: Path, read: Callable[[memoryview], int | None], piece: memoryview, size: int) -> None:
    if len(piece) < size:
        raise _changed(path)
    while piece:
        count = read(piece)
        if not count:
            raise _changed(path)
        piece = piece[count:]


def _changed(path: Path) -> ConvertError:
    return ConvertError(f"{path} changed while it was being read; leave it alone and start again")


def _forget(descriptor: int) -> None:
    """Drop what the system remembers of a file; only what is on the disk already can be dropped."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _escaped(name: str) -> tuple[bytes, bytes]:
    """The mark before the digest and the name after it, as GNU's tools write names with a backslash or a line's end."""
    raw = os.fsencode(name)
    escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != raw else b""), escaped
