"""What the Hub knows a file's contents by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from nemotron_gguf.convert.writer.digest import read_pieces


class BlobDigest:
    """What a file's contents are known by: SHA-256, and git's id of a blob where that is what is `expected`.

    `expected` has 64 or 40 hexadecimal digits, as a repository's listing has them of large and of small files; None
    where nothing is known.
    """

    def __init__(self, size: int, expected: str | None) -> None:
        self._expected = expected
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        if self._expected is not None and len(self._expected) == 40:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        """In small hexadecimal letters."""
        return self._sha256.hexdigest()

    @property
    def found(self) -> str:
        """The digest of the kind that is expected."""
        return self._git.hexdigest() if self._expected is not None and len(self._expected) == 40 else self.sha256

    @property
    def is_right(self) -> bool:
        """Whether it is as expected, as far as that is known."""
        return self._expected in (None, self.found)


def digest_of(path: Path, expected: str | None, count: Callable[[int, int], None]) -> BlobDigest:
    """The digest of a file that is there. Raises ConvertError where it cannot be read."""
    digest, done = BlobDigest(path.stat().st_size, expected), 0
    for piece, total in read_pieces(path):
        digest.update(piece)
        done += len(piece)
        count(done, total)
    return digest
