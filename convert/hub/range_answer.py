"""The answer to a request for a range of bytes: held against what was asked before a byte of it is believed."""

from __future__ import annotations

import re
import time
from typing import Any

from nemotron_gguf.convert.errors import Interrupted
from nemotron_gguf.convert.hub.client import PASSING, status_failure
from nemotron_gguf.convert.hub.patience import Failed, Patience

STALE = {400, 401, 403, 404, 410}  # how storages refuse a signed address that has expired

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


def odd(reason: str) -> Failed:
    """An answer that cannot be right: another address may do better, and where none does it is an error for good."""
    return Failed(reason, stale=True)


class Span:
    """Bytes that are wanted, and how many of them are there."""

    def __init__(self, offset: int, size: int) -> None:
        self.buffer = bytearray(size)
        self._view = memoryview(self.buffer)
        self._offset, self._size = offset, size
        self.done = 0

    @property
    def left(self) -> int:
        """Bytes that are missing."""
        return self._size - self.done

    @property
    def first(self) -> int:
        """The place in the file of the first byte that is missing."""
        return self._offset + self.done

    @property
    def last(self) -> int:
        """The place in the file of the last byte that is wanted."""
        return self._offset + self._size - 1

    def put(self, piece: bytes) -> None:
        """Add what came next."""
        if len(piece) > self.left:
            raise odd(f"the storage sent more than the {self._size} bytes that were asked for")
        self._view[self.done : self.done + len(piece)] = piece
        self.done += len(piece)


class RangeAnswers:
    """Receives answers for one file of `size` bytes."""

    def __init__(self, size: int, patience: Patience) -> None:
        self._size, self._patience = size, patience
        self._etags: dict[str, str] = {}

    def receive(self, answer: Any, span: Span) -> None:
        """Check an answer (a streamed response) and take its bytes.

        Raises Failed where it is not what it must be; then no byte of it is taken.
        """
        status = answer.status_code
        if status in PASSING:
            raise status_failure(status, answer.headers, "the storage")
        if status in STALE:
            raise _stale(status)
        if status == 416:
            self._check_total(answer.headers.get("content-range", "").rpartition("/")[2])
        whole = status == 200 and (span.first, span.last) == (0, self._size - 1)
        if status == 206:
            self._check_range(answer.headers, span)
        elif not whole:
            what = "sends the whole file where a range is asked for" if status == 200 else f"answered {status}"
            raise odd(f"the storage {what}")
        elif answer.headers.get("content-length", str(self._size)) != str(self._size):
            self._check_total(answer.headers["content-length"])
        if answer.headers.get("content-encoding", "identity") not in ("", "identity"):
            raise odd("the storage, or a proxy, sends the bytes compressed")
        self._check_etag(answer)
        self._take(answer, span)

    def _check_range(self, headers: Any, span: Span) -> None:
        text = headers.get("content-range", "")
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None:
            raise odd(f"the storage answers a range with Content-Range {text[:60]!r}")
        self._check_total(match[3])
        first, last = int(match[1]), int(match[2])
        length = headers.get("content-length", str(last - first + 1))
        if first != span.first or not first <= last <= span.last or length != str(last - first + 1):
            raise odd(
                f"the storage answers bytes {span.first}-{span.last} with {first}-{last} and {length[:20]} bytes",
            )

    def _check_total(self, total: str) -> None:
        if total.isascii() and total.isdigit() and int(total[:20]) != self._size:
            raise odd(f"it has {total[:20]} bytes in the storage, {self._size} expected; it changed: start anew")

    def _check_etag(self, answer: Any) -> None:
        """The storage's own ETag, which is another than the Hub's, must stay the same for the same address."""
        etag = answer.headers.get("etag", "").removeprefix("W/").strip('"')
        if not etag:
            return
        place = f"{answer.url.host}{answer.url.path}"
        if len(self._etags) > 64:
            self._etags.clear()
        if self._etags.setdefault(place, etag) != etag:
            raise odd(
                f"it has the ETag {etag[:80]} in the storage, {self._etags[place][:80]} expected; it changed while it"
                " was read: start anew"
            )

    def _take(self, answer: Any, span: Span) -> None:
        since, then = time.monotonic(), span.done
        for piece in answer.iter_raw():
            span.put(piece)
            if (now := time.monotonic()) > since + self._patience.silent:
                if span.left and span.done - then < self._patience.trickle:
                    raise Failed("the storage sends next to nothing")
                since, then = now, span.done


def _stale(status: int) -> Failed:
    if status == 404:
        return odd("the storage does not have it (404)")
    reason = f"the storage refuses every address that the Hub gives ({status}); run the same command again later"
    return Failed(reason, error=Interrupted, stale=True)
