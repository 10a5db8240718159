"""A repository of the Hub at one commit: what is in it, and its files, from the cache where they lie there."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hub.cache import cached_etag, cached_file
from nemotron_gguf.convert.hub.client import LIBRARY, endpoint, http_errors, offline, passing, refusal
from nemotron_gguf.convert.hub.patience import Patience
from nemotron_gguf.convert.hub.remote import Address, Listed, RemoteFile
from nemotron_gguf.convert.source.byte_source import ByteSource, LocalFile

MAX_FILES = 100_000
MAX_DEPTH = 8  # folders in folders

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLAIN = re.compile(r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]{0,254}")  # a name that is a file's beside config.json
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def list_files(repo_id: str, revision: str | None, folders: bool = False) -> tuple[str, dict[str, Listed]]:
    """The commit that a revision (None: the main branch) is now, and its files, sorted.

    Those at the top level, or with `folders` those in folders too, by their paths.

    Raises Failed where the Hub may answer later, ConvertError where it refuses or what it says makes no sense.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(endpoint=endpoint(), library_name=LIBRARY)
    try:
        info = api.model_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT, files_metadata=True)
    except http_errors() as error:
        raise offline(error) or passing(error) or refusal(error, repo_id, revision) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise _nonsense(repo_id, f"{type(error).__name__} {error}") from error
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise _nonsense(repo_id, f"commit {str(info.sha)[:60]!r}")
    if revision and _COMMIT.fullmatch(revision) and info.sha != revision:
        raise _nonsense(repo_id, f"commit {info.sha} where {revision} was asked for")
    siblings = info.siblings or []
    if len(siblings) > MAX_FILES:
        raise _nonsense(repo_id, f"{len(siblings)} files")
    found = {file.rfilename: _listed(repo_id, file) for file in siblings if _is_plain(file.rfilename, folders)}
    return info.sha, dict(sorted(found.items()))


def _is_plain(name: object, folders: bool) -> bool:
    """Whether it is a file at the top level, or in `folders` below it; anything else is never opened."""
    if not isinstance(name, str):
        return False
    parts = name.split("/") if folders else [name]
    return len(parts) <= MAX_DEPTH and all(_PLAIN.fullmatch(part) for part in parts)


def _listed(repo_id: str, file: Any) -> Listed:
    size = file.lfs.size if file.lfs else file.size
    etag = file.lfs.sha256 if file.lfs else file.blob_id
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 60):
        raise _nonsense(repo_id, f"{file.rfilename[:80]} with {str(size)[:40]!r} bytes")
    return Listed(size, etag if isinstance(etag, str) and _HASH.fullmatch(etag) else None)


def _nonsense(repo_id: str, what: str) -> ConvertError:
    return ConvertError(f"the Hub's listing of {repo_id} makes no sense: {what}; check HF_ENDPOINT")


class Repository:
    """The weights of a repository at one commit (Files)."""

    def __init__(self, repo_id: str, commit: str, listed: Mapping[str, Listed], patience: Patience) -> None:
        self.name = f"{repo_id}@{commit[:7]}"
        self._repo_id, self._commit, self._listed, self._patience = repo_id, commit, listed, patience
        self._lock, self._closed = threading.Lock(), False
        self._opened: list[threading.Event] = []

    def names(self) -> Iterable[str]:
        """The files at the top level, sorted."""
        return self._listed.keys()

    def open(self, name: str) -> ByteSource:
        """A file from the Hub's cache, or else over the network."""
        listed = self._listed[name]
        path = cached_file(self._repo_id, self._commit, name, listed.size, listed.etag)
        if path is not None:
            return _cached(path, name, self._commit, listed.etag)
        stop = threading.Event()
        with self._lock:
            self._opened.append(stop)
            if self._closed:
                stop.set()
        return RemoteFile(Address(self._repo_id, self._commit, name), listed, self._patience, stop)

    def close(self) -> None:
        """End all reading and waiting, of files that are still being opened too."""
        with self._lock:
            self._closed = True
            for stop in self._opened:
                stop.set()


@dataclass(frozen=True)
class CachedFolder:
    """The files of a commit in the Hub's cache (Files), for when there is no Hub."""

    repo_id: str
    folder: Path

    @property
    def name(self) -> str:
        """The repository and its commit."""
        return f"{self.repo_id}@{self.folder.name[:7]}"

    def names(self) -> list[str]:
        """The files at the top level, sorted."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())

    def open(self, name: str) -> LocalFile:
        """One of the files."""
        return _cached(self.folder / name, name, self.folder.name, None)

    def close(self) -> None:
        """Nothing is held."""


def _cached(path: Path, name: str, commit: str, etag: str | None) -> LocalFile:
    """A file of the cache, which is the same to a run that goes on as the one read over the network before."""
    etag = etag or cached_etag(path)
    known = {"name": name, "size": path.stat().st_size, "etag": etag, "commit": commit} if etag else None
    return LocalFile(path, known)
