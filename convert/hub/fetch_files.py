"""Files of a repository as plain files in a folder; what is there already, and right, is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hub.blob_digest import digest_of
from nemotron_gguf.convert.hub.fetch import Download
from nemotron_gguf.convert.hub.patience import Patience
from nemotron_gguf.convert.hub.remote import Address, Listed, RemoteFile
from nemotron_gguf.convert.hub.tally import FetchOptions, Tally
from nemotron_gguf.convert.source.byte_source import ByteSource
from nemotron_gguf.convert.writer.digest import read_sidecar, sidecar_path, write_sidecar
from nemotron_gguf.convert.writer.part_file import PartFile
from nemotron_gguf.convert.writer.room import check_room

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Wanted:
    """A file to bring: where the Hub has it, what is listed of it, and where it comes to lie."""

    address: Address
    listed: Listed
    target: Path

    @property
    def room(self) -> tuple[Path, int]:
        """Its folder, and the bytes that it still takes there."""
        size = self.listed.size or 0
        return self.target.parent, size - PartFile(self.target, size).allocated


def fetch_files(
    files: Sequence[Wanted],
    options: FetchOptions,
    patience: Patience,
    *,
    sidecars: bool = False,
    replace: bool = False,
    check: Callable[[ByteSource, Wanted], object] | None = None,
) -> None:
    """Bring the files one after the other, the first last: of a model in parts it is the one that people open.

    `check` sees every file that is missing before anything is fetched; `sidecars` keep the SHA-256 beside each. With
    `replace` a file that is there and another one stays until the new one is complete. Raises ConvertError where one
    is there otherwise, where the disk has no room for all, and what `check` and Download raise.
    """
    tally = Tally(sum(file.listed.size or 0 for file in files), options)
    missing = [file for file in files if not _is_kept(file, tally, sidecars, replace)]
    check_room(file.room for file in missing)
    with ExitStack() as stack:
        checked: dict[Path, RemoteFile] = {}
        if check:
            for file in missing:
                checked[file.target] = stack.enter_context(closing(_open(file, patience)))
                check(checked[file.target], file)
        if sidecars and replace and len(files) > 1 and files[0] in missing:
            files[0].target.unlink(missing_ok=True)  # never the old first part with new ones behind it
        for file in (*missing[1:], *missing[:1]):
            source = checked.get(file.target) or _open(file, patience)
            expected = expected_digest(source, file.listed, options)
            make_folder(file.target.parent)
            name = file.target.name
            Download(source, file.target, expected, tally, name=name, sidecar=sidecars, replace=replace).go()


def expected_digest(source: ByteSource, listed: Listed, options: FetchOptions) -> str | None:
    """The digest that a file should have: as listed, or else its ETag where that is a SHA-256."""
    etag = str(source.identity().get("etag", ""))
    expected = listed.etag or (etag if _SHA256.fullmatch(etag) else None)
    if expected is None:
        options.say(f"{source.name}: the Hub gives no checksum of it, so only its size can be checked")
    return expected


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises ConvertError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvertError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def _open(file: Wanted, patience: Patience) -> RemoteFile:
    return RemoteFile(file.address, file.listed, patience)


def _is_kept(file: Wanted, tally: Tally, sidecars: bool, replace: bool) -> bool:
    """Whether a file is there as it should be. Raises ConvertError where it is another one that must stay."""
    path, listed = file.target, file.listed
    if not path.exists() and not path.is_symlink():
        return False
    size = path.stat().st_size if path.is_file() else -1
    right = size == listed.size if listed.size is not None else size >= 0
    if not right or not _has_digest(path, listed.etag, tally, sidecars):
        if replace and size >= 0:
            return False
        raise ConvertError(
            f"{path} exists and is another file than {file.address.file} of {file.address.repo_id}; move it away,"
            " choose another --out-dir, or replace it with `nemotron pull --force`"
        )
    tally.add(size, path.name, fetched=False)
    return True


def _has_digest(path: Path, expected: str | None, tally: Tally, sidecars: bool) -> bool:
    """Whether a file's contents are as expected; the word of its sidecar is taken where it has one."""
    if sidecars and expected and len(expected) == 64 and sidecar_path(path).exists():
        return read_sidecar(path) == expected
    digest = digest_of(path, expected, tally.count("checking", path.name))
    if sidecars and digest.is_right:
        write_sidecar(path, digest.sha256)
    return digest.is_right
