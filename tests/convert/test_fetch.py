"""One file brought in ranges: whatever ends a run, the next goes on, and no wrong byte gets a name."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub import fetch
from nemotron_gguf.convert.hub.fetch import Download
from nemotron_gguf.convert.hub.tally import FetchOptions, FetchProgress, Tally
from nemotron_gguf.convert.writer.digest import read_sidecar
from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.convert.writer.part_file import PartFile

CHUNK = 1000
DATA = random.Random(1).randbytes(20 * CHUNK + 123)
SHA256 = hashlib.sha256(DATA).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "CHUNK", CHUNK)


@dataclass
class Source:
    """Bytes in memory; after `limit` reads, or at the read of one place, it fails."""

    data: bytes = DATA
    etag: str = "e1"
    limit: int = 10**9
    failure: BaseException = field(default_factory=lambda: Interrupted("the network is gone"))
    in_flight: int = 4
    name: str = "org/name: file.bin"
    asked: list[int] = field(default_factory=list)
    closed: bool = False
    lock: Any = field(default_factory=threading.Lock)

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytearray:
        with self.lock:
            if len(self.asked) >= self.limit:
                raise self.failure
            self.asked.append(offset // CHUNK)
        return bytearray(self.data[offset : offset + size])

    def identity(self) -> dict[str, object]:
        return {"name": "file.bin", "size": self.size, "etag": self.etag, "commit": "c"}

    def close(self) -> None:
        self.closed = True


@dataclass
class Told:
    """What a run said, and where it stood."""

    said: list[str] = field(default_factory=list)
    seen: list[FetchProgress] = field(default_factory=list)


def bring(source: Source, target: Path, expected: str | None = SHA256, **more: Any) -> Told:
    told = Told()
    tally = Tally(source.size, FetchOptions(told.seen.append, told.said.append))
    Download(source, target, expected, tally, name=target.name, **more).go()
    return told


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def broken(target: Path, limit: int = 12) -> None:
    """A run that ends after some chunks, which are kept."""
    with pytest.raises(Interrupted, match="network is gone") as caught:
        bring(Source(limit=limit), target)
    assert "the same command goes on there" in caught.value.__notes__[0]
    assert names(target.parent) == ["file.bin.journal", "file.bin.part"]


@pytest.mark.parametrize("expected", [SHA256, GIT, None])
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, len(DATA)])
def test_a_file_comes_whole_and_alone(tmp_path: Path, size: int, expected: str | None) -> None:
    data = DATA[:size]
    if expected:
        expected = hashlib.sha256(data).hexdigest() if len(expected) == 64 else git(data)
    source = Source(data)
    told = bring(source, tmp_path / "file.bin", expected, sidecar=True)
    assert (tmp_path / "file.bin").read_bytes() == data
    assert names(tmp_path) == ["file.bin", "file.bin.sha256"]
    assert read_sidecar(tmp_path / "file.bin") == hashlib.sha256(data).hexdigest()
    assert sorted(source.asked) == list(range(-(-size // CHUNK))), "every range once"
    assert source.closed
    coming = [at for at in told.seen if at.phase == "downloading"]
    assert [at.done for at in coming] == sorted(at.done for at in coming)
    assert (coming[-1].done, coming[-1].total, coming[-1].fetched) == (size, size, size)


def git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_what_came_is_not_asked_for_again(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    broken(target)
    source = Source()
    told = bring(source, target)
    assert target.read_bytes() == DATA
    assert 0 < len(source.asked) <= 21 - 12 + 6, "what was in flight is lost at most: of four readers and one writer"
    assert "going on with file.bin at" in told.said[0]
    first = next(at for at in told.seen if at.phase == "downloading")
    assert first.done > 0
    assert first.fetched == 0


@pytest.mark.parametrize("seed", range(8))
def test_any_number_of_ends(tmp_path: Path, seed: int) -> None:
    chance, target, asked = random.Random(seed), tmp_path / "file.bin", 0
    for _ in range(50):
        source = Source(limit=chance.randrange(0, 9))
        try:
            bring(source, target)
        except Interrupted:
            assert not target.exists()
        asked += len(source.asked)
        if target.exists():
            break
    assert target.read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"]


def test_a_damaged_chunk_is_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    broken(target)
    part = bytearray((tmp_path / "file.bin.part").read_bytes())
    had = [number for number in range(20) if any(part[number * CHUNK : (number + 1) * CHUNK])]
    part[had[2] * CHUNK + 17] ^= 4
    (tmp_path / "file.bin.part").write_bytes(part)
    source = Source()
    told = bring(source, target)
    assert target.read_bytes() == DATA
    assert had[2] in source.asked
    assert had[0] not in source.asked
    assert any("1 chunks of file.bin are damaged" in line for line in told.said)


def garbled(path: Path) -> None:
    path.write_bytes(b"00000000 {}\n" + path.read_bytes()[9:])


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [garbled, torn, bit, lambda p: p.write_bytes(b""), Path.unlink], ids=str)
def test_a_damaged_journal(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    target = tmp_path / "file.bin"
    broken(target)
    damage(tmp_path / "file.bin.journal")
    bring(Source(), target)
    assert target.read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("change", ["etag", "digest", "size"])
def test_another_source_begins_afresh(tmp_path: Path, change: str) -> None:
    """Half of one file and half of another are never one."""
    target = tmp_path / "file.bin"
    broken(target)
    data = DATA[::-1] if change != "size" else DATA + b"!"
    told = bring(Source(data, etag="e2" if change == "etag" else "e1"), target, hashlib.sha256(data).hexdigest())
    assert target.read_bytes() == data
    assert "starting file.bin afresh: what an earlier run left is of another source" in told.said


@pytest.mark.parametrize("expected", ["0" * 64, "0" * 40])
def test_wrong_bytes_get_no_name(tmp_path: Path, expected: str) -> None:
    with pytest.raises(ConvertError, match=f"{expected} expected.*nothing of it is kept") as caught:
        bring(Source(), tmp_path / "file.bin", expected, sidecar=True)
    assert not isinstance(caught.value, Interrupted)
    assert names(tmp_path) == []


def test_a_disk_that_forgets_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, real, once = tmp_path / "file.bin", PartFile.read, [True]

    def read(part: PartFile, offset: int, size: int) -> bytes:
        data = real(part, offset, size)
        if offset == 3 * CHUNK and once:
            once.clear()
            return bytes(len(data))
        return data

    monkeypatch.setattr(PartFile, "read", read)
    with pytest.raises(Interrupted, match="does not read back as it was written in 1 places"):
        bring(Source(), target)
    assert not target.exists()
    source = Source()
    bring(source, target)
    assert source.asked == [3]
    assert target.read_bytes() == DATA


def test_two_at_once(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with Lock(target), pytest.raises(ConvertError, match="is being written by process"):
        bring(Source(), target)
    bring(Source(), target)
    with pytest.raises(ConvertError, match="has appeared meanwhile and is kept"):
        bring(Source(DATA[::-1]), target, None)
    assert target.read_bytes() == DATA
    bring(Source(DATA[::-1]), target, None, replace=True)
    assert target.read_bytes() == DATA[::-1]


def test_ctrl_c_keeps(tmp_path: Path) -> None:
    source = Source(limit=9, failure=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        bring(source, tmp_path / "file.bin")
    assert source.closed
    assert "% of file.bin is kept" in caught.value.__notes__[0]
    bring(Source(), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_nothing_came_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        bring(Source(limit=0), tmp_path / "file.bin")
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="needs pwrite")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "fsync", "write", "replace"])
@pytest.mark.parametrize("nth", [0, 1, 3])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, code: int) -> None:
    """Every call that writes fails once: one line, and the next run brings the file."""
    target, count = tmp_path / "file.bin", [0]
    owner: Any = Path if call == "replace" else os
    real = getattr(owner, call)

    def failing(*arguments: Any) -> Any:
        count[0] += 1
        if count[0] == nth + 1:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(owner, call, failing)
    try:
        bring(Source(), target, sidecar=True)
    except ConvertError as error:
        assert "\n" not in str(error)
        assert os.strerror(code) in str(error)
        assert not target.exists() or target.read_bytes() == DATA
    else:
        assert count[0] <= nth, "the failure was swallowed"
    monkeypatch.undo()
    monkeypatch.setattr(fetch, "CHUNK", CHUNK)
    if not target.exists():
        bring(Source(), target, sidecar=True)
    assert target.read_bytes() == DATA
    assert not target.with_name("file.bin.lock").exists()
