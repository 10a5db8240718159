"""A file of the Hub read by HTTP ranges, never stored: what is asked for comes, whatever the network does, or an error.

The Hub answers a file's address with its size, its ETag and a redirect to a signed address in its storage, which soon
expires; ranges are read from there, and when it is refused the Hub is asked again. Files in the chunked (Xet) storage
are served the same way by its HTTP bridge. Nothing here knows the difference, and the token goes to the Hub alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub.client import LIBRARY, endpoint, http_errors, passing, refusal, words
from nemotron_gguf.convert.hub.patience import Effort, Failed, Patience
from nemotron_gguf.convert.hub.range_answer import RangeAnswers, Span, odd

REFUSALS = 6  # addresses in a row that bring nothing, waits between them, until it is believed that none will
IN_FLIGHT = 8  # ranges of one build under way at once: enough to fill a line of a gigabit over an ocean


@dataclass(frozen=True)
class Address:
    """A file of a repository at a commit."""

    repo_id: str
    commit: str
    file: str

    @property
    def url(self) -> str:
        """Where the Hub is asked for it."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repo_id, self.file, revision=self.commit, endpoint=endpoint())


@dataclass(frozen=True)
class Listed:
    """A file as the repository's listing has it: bytes, and SHA-256 (of large files) or git's id; None: not told."""

    size: int | None = None
    etag: str | None = None


@dataclass
class _Location:
    """A signed address and the headers to send there; `worked` once bytes came from it, `refusal` when no more will."""

    url: str
    headers: Mapping[str, str]
    worked: bool = False
    refusal: Failed | None = None


class RemoteFile:
    """A file of the Hub at one commit (a ByteSource); nothing of it is kept."""

    in_flight = IN_FLIGHT

    def __init__(
        self,
        address: Address,
        listed: Listed | None = None,
        patience: Patience | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Ask the Hub for the file's size and place, which must be as `listed`. `stop` ends all waiting when set.

        Raises ConvertError in one line where the Hub refuses, Interrupted where it cannot be reached.
        """
        self.name = f"{address.repo_id}: {address.file}"
        self._address, self._patience = address, patience or Patience.from_environment()
        self._stop, self._lock = stop or threading.Event(), threading.Lock()
        self._budget = self._patience.opening  # until the first bytes have come
        self._known, self._seen = listed or Listed(), False
        opening = Effort(self.name, self._patience, self._budget, self._stop)
        self._location = opening.persist(self._resolve)
        self._useless = 0  # addresses in a row that brought nothing
        assert self._known.size is not None
        self.size = self._known.size
        self._answers = RangeAnswers(self.size, self._patience)

    def identity(self) -> dict[str, object]:
        """Name, size and ETag of the file, and the repository's commit; nothing of a signed address."""
        return {
            "name": self._address.file,
            "size": self.size,
            "etag": self._known.etag,
            "commit": self._address.commit,
        }

    def close(self) -> None:
        """End all reading and waiting; reading afterwards is an error."""
        self._stop.set()

    def read(self, offset: int, size: int) -> bytearray:
        """Exactly `size` bytes from an absolute offset; what broke off is continued where it broke.

        Raises Interrupted where nothing came for as long as `Patience` allows or access was lost, ConvertError where
        the file is not the one that was opened or the server does not serve ranges as it must.
        """
        if offset < 0 or offset + size > self.size:
            raise ConvertError(
                f"{self.name} has {self.size} bytes, {offset + size} are expected; it is truncated: look at the"
                " repository's other revisions"
            )
        span = Span(offset, size)
        effort = Effort(self.name, self._patience, self._budget, self._stop)
        location = self._location
        while span.left:
            effort.check()
            before = span.done
            try:
                if location.refusal is not None:
                    location = self._renewed(location)
                self._fetch(span, location)
            except Failed as failure:
                if span.done > before:
                    effort.progressed()
                if failure.stale:
                    location.refusal = failure
                    effort.pause(self._useless)
                else:
                    effort.failed(failure)
        self._budget = self._patience.budget
        return span.buffer

    def _fetch(self, span: Span, location: _Location) -> None:
        """One request for what is missing. Raises Failed where it did not bring everything."""
        from huggingface_hub import get_session

        headers = {**location.headers, "Range": f"bytes={span.first}-{span.last}"}
        before = span.done
        try:
            with get_session().stream(
                "GET", location.url, headers=headers, timeout=self._patience.silent, follow_redirects=True
            ) as answer:
                self._answers.receive(answer, span)
        except http_errors() as error:
            if span.left:
                raise passing(error) or odd(f"the storage gave {type(error).__name__} ({words(error)})") from error
        finally:
            if span.done > before:
                location.worked, self._useless = True, 0
        if span.left:
            raise Failed("the answer ended early")

    def _renewed(self, stale: _Location) -> _Location:
        """Another place to read from; the Hub is asked by one reader, for all. Raises Failed as `_resolve` does."""
        with self._lock:
            if self._location is stale:
                assert stale.refusal is not None
                useless = 0 if stale.worked else self._useless + 1
                if useless >= REFUSALS:
                    raise stale.refusal.error(f"{self.name}: {stale.refusal.reason}")
                self._location, self._useless = self._resolve(), useless
            return self._location

    def _resolve(self) -> _Location:
        """Ask the Hub where the file lies. Raises Failed where it may answer later."""
        from huggingface_hub import constants, get_hf_file_metadata
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = self._address.url
        try:
            found = get_hf_file_metadata(
                url, timeout=constants.HF_HUB_ETAG_TIMEOUT, library_name=LIBRARY, endpoint=endpoint()
            )
        except http_errors() as error:
            raise passing(error) or self._refused(error) from error
        self._check(found)
        headers = {**build_hf_headers(library_name=LIBRARY), "Accept-Encoding": "identity"}
        target = urljoin(url, found.location)
        if origin(target) != origin(endpoint()):
            headers.pop("authorization", None)
        if not _is_safe(target):
            raise ConvertError(f"{self.name}: the Hub places it at an address that is not https; check HF_ENDPOINT")
        return _Location(target, headers)

    def _refused(self, error: Exception) -> ConvertError:
        """What the Hub refused; where it did not before, access may come back and what is done is worth keeping."""
        from huggingface_hub import errors

        line = refusal(error, self._address.repo_id, None)
        gone = isinstance(error, errors.EntryNotFoundError | errors.RevisionNotFoundError)
        return line if gone or not self._seen else Interrupted(str(line))

    def _check(self, found: Any) -> None:
        """Hold what the Hub says against the listing and against what it said before."""
        if not found.etag or found.size is None or found.size < 0:
            raise ConvertError(f"{self.name}: the Hub gives no size or no ETag for it; check HF_ENDPOINT")
        if found.commit_hash and found.commit_hash != self._address.commit:
            raise ConvertError(
                f"{self.name}: the Hub answers with commit {found.commit_hash[:40]},"
                f" {self._address.commit} was asked for; check HF_ENDPOINT"
            )
        known = self._known
        if known.size not in (None, found.size):
            raise ConvertError(f"{self.name} has {found.size} bytes now, {known.size} expected; it changed: start anew")
        # Mirrors have ETags of their own; only what is a hash of the same kind can be held against the listing.
        comparable = self._seen or len(known.etag or "") == len(found.etag)
        if comparable and known.etag != found.etag:
            raise ConvertError(
                f"{self.name} has the ETag {found.etag[:80]} now, {known.etag} expected; it changed: start anew"
            )
        self._known, self._seen = Listed(found.size, found.etag), True


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a token is meant for."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def _is_safe(url: str) -> bool:
    """https, or http where the Hub itself is reached by it."""
    scheme = urlsplit(url).scheme
    return scheme == "https" or (scheme == "http" and urlsplit(endpoint()).scheme == "http")
