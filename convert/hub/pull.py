"""What `nemotron pull` brings from the Hub: a checkpoint, or one ready GGUF with all its parts."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub import place as hub
from nemotron_gguf.convert.hub.cache import cached_folder, is_complete
from nemotron_gguf.convert.hub.fetch import CHUNK
from nemotron_gguf.convert.hub.fetch_files import Wanted, fetch_files, make_folder
from nemotron_gguf.convert.hub.gguf_choice import Offer, choose
from nemotron_gguf.convert.hub.gguf_remote import check_gguf
from nemotron_gguf.convert.hub.patience import Effort, Lost, Patience
from nemotron_gguf.convert.hub.remote import Address, Listed, RemoteFile
from nemotron_gguf.convert.hub.store import Store
from nemotron_gguf.convert.hub.tally import FetchOptions, Tally
from nemotron_gguf.models.gguf_parts import whole
from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.shelf import Origin, write_origin

# Weights in other formats, which nobody who wants a checkpoint for transformers, or a conversion, reads.
OTHER_WEIGHTS = re.compile(r"\.(bin|pt|pth|ckpt|gguf|ggml|onnx|onnx_data|h5|msgpack|ot|tflite|nemo|npz)", re.IGNORECASE)

_SOURCE = re.compile(r"([^:]+)(?::([A-Za-z0-9][A-Za-z0-9._/-]{0,255}))?", re.ASCII)


@dataclass(frozen=True)
class Asked:
    """A repository, and what stood after the colon: the type of a GGUF, or its file."""

    place: hub.Place
    kind: str | None = None

    def __str__(self) -> str:
        return f"{self.place}{':' + self.kind if self.kind else ''}"


@dataclass(frozen=True)
class Pulled:
    """What lies on the disk now: a checkpoint's `folder`, or the `files` of a GGUF in order."""

    repo_id: str
    commit: str
    folder: Path
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Goal:
    """Where to bring things: `folder` for whatever comes (None: the Hub's cache, or the library), `shelf` the library.

    `ready` says that only a GGUF will do, `force` that other files of the same names may be replaced.
    """

    shelf: Path
    folder: Path | None = None
    ready: bool = False
    force: bool = False


def parse_asked(source: str) -> Asked:
    """`org/name[@revision][:TYPE]`. Raises ConvertError for anything else."""
    match = _SOURCE.fullmatch(hub.without_page(source))
    place = hub.parse_repository(match[1]) if match else None
    if match is None or place is None or ".." in source:
        raise ConvertError(f"{source[:200]!r} is no Hub repository; expected org/name[@revision][:TYPE]")
    return Asked(place, match[2])


def pull(asked: Asked, goal: Goal, options: FetchOptions | None = None, patience: Patience | None = None) -> Pulled:
    """Bring what is asked for, and return where it is; what is there already is kept.

    A repository with safetensors is a checkpoint, unless a type is named or only a GGUF will do. Raises ConvertError;
    the same call goes on where this one ended.
    """
    options, patience = options or FetchOptions(), patience or Patience.from_environment()
    repo_id = asked.place.repo_id or ""
    try:
        commit, files = hub.look_up(asked.place, patience, folders=True)
    except Interrupted as error:
        return _from_cache(asked, goal, options, error)
    weights = any(name.endswith(".safetensors") for name in files)
    gguf = any(name.lower().endswith(".gguf") for name in files)
    if asked.kind or (gguf and (goal.ready or not weights)):
        return _gguf(asked, commit, files, goal, options, patience)
    if not weights:
        raise ConvertError(f"{repo_id} has neither safetensors nor GGUF files; give another repository")
    if goal.ready:
        raise ConvertError(f"{repo_id} is a checkpoint; make a model of it: nemotron build {asked} --type Q4_K_M")
    wanted = {name: listed for name, listed in files.items() if not OTHER_WEIGHTS.fullmatch(PurePosixPath(name).suffix)}
    if goal.folder is None:
        return Pulled(repo_id, commit, _to_cache(asked.place, commit, wanted, options, patience))
    make_folder(goal.folder)
    addressed = ((Address(repo_id, commit, name), listed) for name, listed in wanted.items())
    found = [Wanted(a, f, goal.folder.joinpath(*a.file.split("/"))) for a, f in addressed]
    fetch_files(found, options, patience, replace=goal.force)
    return Pulled(repo_id, commit, goal.folder)


def header_of(asked: Asked, patience: Patience | None = None) -> GGUFFile:
    """The header of a ready file, of a model in parts all of them as one, over the network. Raises NemotronError."""
    patience = patience or Patience.from_environment()
    repo_id = asked.place.repo_id or ""
    commit, files = hub.look_up(asked.place, patience, folders=True)
    parts = []
    for name in choose(repo_id, files, asked.kind).parts:
        with closing(RemoteFile(Address(repo_id, commit, name), files[name], patience)) as source:
            parts.append(check_gguf(source, PurePosixPath(name).name))
    return whole(parts)


def _from_cache(asked: Asked, goal: Goal, options: FetchOptions, error: Interrupted) -> Pulled:
    """The checkpoint that is complete already, where the Hub cannot be reached. Raises Interrupted without one."""
    cached = cached_folder(asked.place.repo_id or "", asked.place.revision)
    if goal.folder or goal.ready or asked.kind or cached is None or not is_complete(cached):
        reason = error.reason if isinstance(error, Lost) else error
        raise Interrupted(
            f"the Hub could not be reached for {asked} ({reason}); check the network,"
            " HF_ENDPOINT and HF_HUB_OFFLINE, and run the same command again"
        ) from error
    options.say(f"the Hub could not be reached ({error}); what its cache has is complete as it was looked up last")
    return Pulled(asked.place.repo_id or "", cached.name, cached)


def _to_cache(
    place: hub.Place, commit: str, files: Mapping[str, Listed], options: FetchOptions, patience: Patience
) -> Path:
    """A checkpoint where huggingface_hub finds it, which brings the small files itself."""
    tally = Tally(sum(listed.size or 0 for listed in files.values()), options)
    effort = Effort(str(place), patience, patience.opening, threading.Event())
    large = {name: listed for name, listed in files.items() if listed.size is None or listed.size > CHUNK}
    store = Store(place.repo_id or "", commit)
    store.check_room(large)
    for name, listed in files.items():
        if name not in large:
            effort.persist(partial(hub.download, place, commit, name, listed, progress=False))
            tally.add(listed.size or 0, name)
    store.bring(large, patience, tally)
    return store.snapshot


def _gguf(
    asked: Asked, commit: str, files: Mapping[str, Listed], goal: Goal, options: FetchOptions, patience: Patience
) -> Pulled:
    """A model that is ready, with where it came from beside it."""
    repo_id, folder = asked.place.repo_id or "", goal.folder or goal.shelf
    offer = choose(repo_id, files, asked.kind)
    wanted = [
        Wanted(Address(repo_id, commit, name), files[name], folder / PurePosixPath(name).name) for name in offer.parts
    ]
    size = "" if offer.size is None else f", {offer.size / 1e9:.3g} GB"
    options.say(f"{asked}: {wanted[0].target.name}{size}")
    fetch_files(
        wanted,
        options,
        patience,
        sidecars=True,
        replace=goal.force,
        check=lambda source, file: check_gguf(source, file.target.name),
    )
    if goal.folder is None:
        write_origin(wanted[0].target, _origin(asked, commit, offer))
    return Pulled(repo_id, commit, folder, tuple(file.target for file in wanted))


def _origin(asked: Asked, commit: str, offer: Offer) -> Origin:
    place = asked.place
    return Origin(place.repo_id or "", place.revision or "", commit, (asked.kind or "",), offer.type, offer.parts[0])
