"""Where a checkpoint is: a local folder, or a repository of the Hugging Face Hub and its download."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub.cache import cached_folder, is_complete
from nemotron_gguf.convert.hub.client import LIBRARY, endpoint, http_errors, passing, refusal
from nemotron_gguf.convert.hub.patience import Effort, Lost, Patience
from nemotron_gguf.convert.hub.remote import Listed
from nemotron_gguf.convert.hub.repository import CachedFolder, Repository, list_files
from nemotron_gguf.convert.hub.store import Store
from nemotron_gguf.convert.source.byte_source import INDEX, Files, LocalFolder
from nemotron_gguf.convert.source.json_files import MAX_JSON

# What a conversion reads; weights in other formats and images stay where they are.
PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "README.md"]
ESSENTIAL = {"config.json", "tokenizer.json", "tokenizer_config.json", INDEX}

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"  # the Hub's rule for organisations and repositories
_REPO = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,200}}))?")
_PAGE = re.compile(r"hf://(?:models/)?|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/")  # what people copy


@dataclass(frozen=True)
class Place:
    """A local `folder`, or the Hub's `repo_id` at `revision` (None: its main branch)."""

    folder: Path | None = None
    repo_id: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.folder or self.repo_id}{'@' + self.revision if self.revision else ''}"


@dataclass(frozen=True)
class Found:
    """A checkpoint's `folder` of small files, and the `files` that hold its weights."""

    folder: Path
    files: Files


def parse_source(source: str | Path, revision: str | None = None) -> Place:
    """Tell a folder from a repository; an existing folder comes first. Raises ConvertError for what is neither."""
    try:
        path = Path(source).expanduser()
        if path.is_dir() and source != "":
            if revision:
                raise ConvertError(f"{source} is a local folder, which has no revision {revision}; leave it out")
            return Place(folder=path)
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConvertError(f"{str(source)[:200]!r} is no usable path: {reason}") from None
    if is_file:
        raise ConvertError(f"{source} is a file, expected the checkpoint's folder or a Hub repository org/name")
    place = parse_repository(str(source))
    if place is None or place.repo_id is None:
        raise ConvertError(
            f"{str(source)[:200]!r} is neither a folder here nor a Hub repository;"
            " expected a path or org/name[@revision]"
        )
    if place.revision and revision and place.revision != revision:
        raise ConvertError(f"{source} names the revision {place.revision}, but {revision} is asked for; give one")
    return Place(repo_id=place.repo_id, revision=place.revision or revision)


def parse_repository(text: str) -> Place | None:
    """`org/name` or `org/name@revision`, or the address of its page; None for anything else."""
    text = without_page(text)
    match = _REPO.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        return None
    return Place(repo_id=match[1], revision=match[2])


def without_page(text: str) -> str:
    """`org/name` of the address that a browser shows for a repository; other texts as they are."""
    return _PAGE.sub("", text).removesuffix("/") if _PAGE.match(text) else text


def open_place(place: Place, *, progress: bool, keep_source: bool, patience: Patience | None = None) -> Found:
    """Where a checkpoint's small files and its weights are.

    A repository is looked up once and read at that commit. Its small files come into the Hub's cache, and with
    `keep_source` so does everything; else weights are read over the network unless the cache has them. `HF_ENDPOINT`,
    `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured, as by every program of the Hub. Raises ConvertError.
    """
    if place.repo_id is None:
        assert place.folder is not None
        return Found(place.folder, LocalFolder(place.folder))
    patience = patience or Patience.from_environment()
    cached = cached_folder(place.repo_id, place.revision)
    cached = cached if cached is not None and is_complete(cached) else None
    try:
        commit, listed = look_up(place, patience, wait=cached is None)
    except Interrupted as error:
        if cached is None:
            raise _unreachable(place, error) from error
        return Found(cached, CachedFolder(place.repo_id, cached))
    try:
        folder = _fetch(place, commit, listed, patience, progress)
    except Interrupted as error:
        raise _unreachable(place, error) from error
    if keep_source:
        wanted = {name: file for name, file in listed.items() if _is_wanted(name)}
        Store(place.repo_id, commit).keep(wanted, patience, progress)
    return Found(folder, Repository(place.repo_id, commit, listed, patience))


def look_up(
    place: Place, patience: Patience, *, wait: bool = True, folders: bool = False
) -> tuple[str, dict[str, Listed]]:
    """The commit and its files; raises Interrupted where the Hub cannot be reached, without `wait` at once."""
    effort = Effort(str(place), patience, patience.opening if wait else 0.0, threading.Event())
    return effort.persist(lambda: list_files(place.repo_id or "", place.revision, folders))


def _fetch(place: Place, commit: str, listed: Mapping[str, Listed], patience: Patience, progress: bool) -> Path:
    """Bring the small files that are wanted into the Hub's cache, and return the commit's folder there."""
    effort = Effort(str(place), patience, patience.opening, threading.Event())
    small = [name for name in listed if _is_small(name, listed[name])]
    paths = [effort.persist(partial(download, place, commit, name, listed[name], progress)) for name in small]
    if not paths:
        raise ConvertError(f"{place} has no config.json, expected a checkpoint; give another Hub repository org/name")
    return paths[0].parent


def _is_small(name: str, listed: Listed) -> bool:
    wanted = _is_wanted(name) and not name.endswith(".safetensors")
    if wanted and (listed.size or 0) > MAX_JSON:
        if name in ESSENTIAL:
            raise ConvertError(
                f"{name} has {listed.size} bytes in its repository, at most {MAX_JSON} expected; this is no sound"
                " checkpoint"
            )
        return False
    return wanted


def _is_wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in PATTERNS)


def download(place: Place, commit: str, name: str, listed: Listed, progress: bool) -> Path:
    """One small file into the cache. Raises Failed where another try may do."""
    from huggingface_hub import errors, hf_hub_download

    _show_bars(progress and (listed.size or 0) > 1 << 20)
    try:
        found = hf_hub_download(place.repo_id or "", name, revision=commit, endpoint=endpoint(), library_name=LIBRARY)
        if name == "config.json" and commit != place.revision:
            _remember(place)
        return Path(found)
    except http_errors() as error:
        cause: BaseException = error
        if isinstance(error, errors.LocalEntryNotFoundError):
            cause = error.__cause__ or ConnectionError("the Hub could not be reached")
        raise passing(cause) or refusal(cause, place.repo_id or "", place.revision) from error


def _remember(place: Place) -> None:
    """Let the cache know which commit the revision is, so that it is found without a network the next time."""
    from huggingface_hub import hf_hub_download

    with suppress(*http_errors()):
        hf_hub_download(
            place.repo_id or "", "config.json", revision=place.revision, endpoint=endpoint(), library_name=LIBRARY
        )


def _show_bars(wanted: bool) -> None:
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if wanted else disable_progress_bars)()


def _unreachable(place: Place, error: Interrupted) -> Interrupted:
    reason = error.reason if isinstance(error, Lost) else error
    return Interrupted(
        f"the Hub could not be reached ({reason}) and {place} is not complete in the cache; check the network,"
        " HF_ENDPOINT and HF_HUB_OFFLINE, and run it again: finished files are kept"
    )
