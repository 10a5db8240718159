"""Large files put into the Hub's cache on this machine, so that every program of the Hub finds them there.

The layout is the documented one (https://huggingface.co/docs/huggingface_hub/guides/manage-cache): contents under
`blobs` by their ETag, names under `snapshots/COMMIT` as links to them, or as the files themselves where a file system
has no links. Small files and references to branches are left to huggingface_hub.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub.cache import cached_file
from nemotron_gguf.convert.hub.fetch import Download
from nemotron_gguf.convert.hub.fetch_files import expected_digest, make_folder
from nemotron_gguf.convert.hub.patience import Patience
from nemotron_gguf.convert.hub.remote import Address, Listed, RemoteFile
from nemotron_gguf.convert.hub.tally import FetchOptions, FetchProgress, Tally
from nemotron_gguf.convert.writer.part_file import PartFile, sync_folder
from nemotron_gguf.convert.writer.room import check_room

_ETAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")  # what may be the name of a file


class Store:
    """The cache's folder of one repository at one commit."""

    def __init__(self, repo_id: str, commit: str) -> None:
        from huggingface_hub import constants

        self.repo_id, self.commit = repo_id, commit
        self.root = Path(constants.HF_HUB_CACHE, "models--" + repo_id.replace("/", "--"))
        self.snapshot = self.root / "snapshots" / commit

    def bring(self, files: Mapping[str, Listed], patience: Patience, tally: Tally) -> None:
        """Bring files, by their names in the repository, into the cache; what is there is kept.

        Raises ConvertError where the disk has no room for all that is missing, and what Download raises.
        """
        missing = [name for name, listed in files.items() if not self._found(name, listed)]
        for name in files.keys() - missing:
            tally.add(files[name].size or 0, name, fetched=False)
        check_room(self._needs(files, missing))
        for name in missing:
            self._fetch(name, files[name], patience, tally)

    def keep(self, files: Mapping[str, Listed], patience: Patience, progress: bool) -> None:
        """As `bring`, with a bar of huggingface_hub's kind where `progress` is wanted."""
        from huggingface_hub.utils.tqdm import tqdm

        total = sum(listed.size or 0 for listed in files.values())
        with tqdm(total=total, desc="Downloading", unit="B", unit_scale=True, disable=not progress) as bar:  # type: ignore[no-untyped-call]

            def report(at: FetchProgress) -> None:
                if at.phase == "downloading":
                    bar.update(at.done - bar.n)

            self.bring(files, patience, Tally(total, FetchOptions(report, lambda line: bar.write(line, sys.stderr))))

    def check_room(self, files: Mapping[str, Listed]) -> None:
        """Raise ConvertError where the disk has no room for what is missing of these files."""
        check_room(self._needs(files, [name for name, listed in files.items() if not self._found(name, listed)]))

    def _found(self, name: str, listed: Listed) -> bool:
        """Whether the cache holds a file of this size, which then has its name too."""
        path = cached_file(self.repo_id, self.commit, name, listed.size, listed.etag)
        if path is None:
            return False
        if path != self.snapshot / name:
            self._name(path, name)
        return True

    def _needs(self, files: Mapping[str, Listed], names: Iterable[str]) -> list[tuple[Path, int]]:
        """The folder and the bytes that each of the files still takes."""
        needs = []
        for name in names:
            size, etag = files[name].size or 0, files[name].etag
            had = PartFile(self.root / "blobs" / etag, size).allocated if etag else 0
            needs.append((self.root / "blobs", size - had))
        return needs

    def _fetch(self, name: str, listed: Listed, patience: Patience, tally: Tally) -> None:
        source = RemoteFile(Address(self.repo_id, self.commit, name), listed, patience)
        etag = str(source.identity()["etag"])
        if not _ETAG.fullmatch(etag):
            raise ConvertError(f"{source.name} has the ETag {etag[:80]!r}, which names no file; check HF_ENDPOINT")
        blob = self.root / "blobs" / etag
        expected = expected_digest(source, listed, tally.options)
        make_folder(blob.parent)
        Download(source, blob, expected, tally, name=name, replace=True).go()
        self._name(blob, name)

    def _name(self, blob: Path, name: str) -> None:
        """Let the commit's folder have the contents under its name."""
        pointer = self.snapshot.joinpath(*name.split("/"))
        try:
            pointer.parent.mkdir(parents=True, exist_ok=True)
            if not _link(blob, pointer):
                blob.replace(pointer)
            sync_folder(pointer.parent)
        except OSError as error:
            raise Interrupted(f"writing {pointer} failed: {error.strerror or error}") from error


def _link(blob: Path, pointer: Path) -> bool:
    """Make a link that leads to the contents wherever the cache is moved; False where there can be none."""
    from huggingface_hub import constants

    if getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
        return False
    partial = pointer.with_name(f"{pointer.name}.{secrets.token_hex(4)}")
    try:
        partial.symlink_to(os.path.relpath(blob, pointer.parent))
        partial.replace(pointer)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        return False
    return True
