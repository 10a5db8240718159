"""Checksums beside files: sha256sum and we read each other's, nothing is half-written, the disk is what is read."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.writer import digest
from nemotron_gguf.convert.writer.digest import cut, read_pieces, read_sidecar, sha256_of, sidecar_path, write_sidecar

GNU = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
HEX = hashlib.sha256(b"abc").hexdigest()
NAMES = ("a.gguf", "with space.gguf", " *leading.gguf", "名字.gguf", "back\\slash.gguf", "two\nlines.gguf", "\\n.gguf")


def made(folder: Path, name: str = "a.gguf", data: bytes = b"abc") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_the_line_is_that_of_sha256sum(tmp_path: Path) -> None:
    path = made(tmp_path)
    write_sidecar(path, HEX)
    assert sidecar_path(path) == tmp_path / "a.gguf.sha256"
    assert sidecar_path(path).read_bytes() == f"{HEX}  a.gguf\n".encode()
    assert read_sidecar(path) == HEX
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.gguf", "a.gguf.sha256"]


@GNU
@pytest.mark.parametrize("name", NAMES)
def test_sha256sum_checks_ours(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    write_sidecar(path, sha256_of(path))
    check = ["sha256sum", "--strict", "-c", sidecar_path(path).name]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    path.write_bytes(b"abd")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


@GNU
@pytest.mark.parametrize("option", ["--text", "--binary"])
@pytest.mark.parametrize("name", NAMES)
def test_we_read_what_sha256sum_writes(tmp_path: Path, name: str, option: str) -> None:
    path = made(tmp_path, name)
    line = subprocess.run(["sha256sum", option, "--", name], cwd=tmp_path, capture_output=True, check=True).stdout
    sidecar_path(path).write_bytes(line)
    assert read_sidecar(path) == HEX


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = made(tmp_path, os.fsdecode(b"\xff\xfe.gguf"))
    write_sidecar(path, HEX)
    assert sidecar_path(path).read_bytes() == HEX.encode() + b"  \xff\xfe.gguf\n"
    assert read_sidecar(path) == HEX


@pytest.mark.parametrize("line", [f"{HEX.upper()}  a.gguf\n", f"{HEX}  a.gguf", f"{HEX} *a.gguf\r\n"])
def test_other_ways_to_write_the_same(tmp_path: Path, line: str) -> None:
    path = made(tmp_path)
    sidecar_path(path).write_bytes(line.encode())
    assert read_sidecar(path) == HEX


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        HEX.encode(),
        HEX.encode() + b"\n",
        HEX.encode() + b"  \n",
        HEX.encode() + b" a.gguf\n",
        HEX[:-1].encode() + b"  a.gguf\n",
        HEX.encode() + b"0  a.gguf\n",
        HEX[:-1].encode() + b"g  a.gguf\n",
        b" " + HEX.encode() + b"  a.gguf\n",
        HEX.encode() + b"  a.gguf\n\n",
        (HEX.encode() + b"  a.gguf\n") * 2,
        HEX.encode() + b"  b.gguf\n",
        HEX.encode() + b"  folder/a.gguf\n",
        HEX.encode() + b"  a.gguf\x00\n",
        HEX.encode() + b"  \xff\xfe\x1b[2J\n",
        b"\\" + HEX.encode() + b"  a.gguf\n",
        b"SHA256 (a.gguf) = " + HEX.encode() + b"\n",
        b"\xef\xbb\xbf" + HEX.encode() + b"  a.gguf\n",
        HEX.encode() + b"  " + b"a" * 5000 + b"\n",
        b"0" * (1 << 20),
    ],
)
def test_anything_else_is_one_clear_line(tmp_path: Path, raw: bytes) -> None:
    path = made(tmp_path)
    sidecar_path(path).write_bytes(raw)
    with pytest.raises(ConvertError, match=r"a\.gguf\.sha256 is (no|the) checksum.*expected") as caught:
        read_sidecar(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_sidecar_that_cannot_be_read(tmp_path: Path) -> None:
    path = made(tmp_path)
    with pytest.raises(ConvertError, match=r"cannot read .*a\.gguf\.sha256: No such file"):
        read_sidecar(path)
    sidecar_path(path).mkdir()
    with pytest.raises(ConvertError, match="is no file"):
        read_sidecar(path)
    if hasattr(os, "mkfifo"):
        other = made(tmp_path, "b.gguf")
        os.mkfifo(sidecar_path(other))  # opened, it would wait for ever
        with pytest.raises(ConvertError, match="is no file"):
            read_sidecar(other)


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    path = made(tmp_path)
    write_sidecar(path, "0" * 64)
    before = sidecar_path(path).read_bytes()

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os if step == "fsync" else Path, step, fail)
        with pytest.raises(Interrupted, match=os.strerror(code)) as caught:
            write_sidecar(path, HEX)
    assert "\n" not in str(caught.value)
    assert sidecar_path(path).read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.gguf", "a.gguf.sha256"]


def test_the_name_appears_after_the_bytes_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, steps = made(tmp_path), []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(("sync", sidecar_path(path).exists(), os.fstat(descriptor).st_size))
        sync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        steps.append(("name", self.parent == target.parent, self.stat().st_size))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_sidecar(path, HEX)
    size = sidecar_path(path).stat().st_size
    assert steps[:2] == [("sync", False, size), ("name", True, size)]
    if hasattr(os, "O_DIRECTORY"):
        assert [name for name, *_ in steps[2:]] == ["sync"]  # of the folder, which holds the name


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 12345])
def test_the_digest_whatever_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(digest, "PIECE", 1000)
    data = os.urandom(size)
    seen: list[tuple[int, int]] = []
    assert (
        sha256_of(made(tmp_path, data=data), lambda done, total: seen.append((done, total)))
        == hashlib.sha256(data).hexdigest()
    )
    assert seen == [(min(end, size), size) for end in range(1000, size + 1000, 1000)]


def test_pieces_of_sizes_of_ones_own(tmp_path: Path) -> None:
    path = made(tmp_path, data=bytes(range(100)))
    assert b"".join(bytes(piece) for piece, _ in read_pieces(path, [1, 60, 39])) == bytes(range(100))
    for sizes in ([1, 60, 38], [1, 60, 40], [100, 1], []):
        with pytest.raises(ConvertError, match="changed while it was being read"):
            list(read_pieces(path, sizes))


def test_pieces_hold_whole_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "PIECE", 1000)
    assert list(cut(3360, 84)) == [924, 924, 924, 588]
    assert list(cut(0, 84)) == []


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(160 << 20)
    tracemalloc.start()
    try:
        sha256_of(path)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1500, 5000])
def test_a_file_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(digest, "PIECE", 1000)
    path = made(tmp_path, data=bytes(3000))
    with pytest.raises(ConvertError, match=r"a\.gguf changed while it was being read"):
        sha256_of(path, lambda _done, _total: os.truncate(path, size))


def test_what_is_no_file_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"cannot read .*: No such file"):
        sha256_of(tmp_path / "none")
    with pytest.raises(ConvertError, match="is no file"):
        sha256_of(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConvertError, match="is no file"):
            sha256_of(tmp_path / "pipe")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file at hand that fails when it is read")
def test_a_fault_of_the_disk_is_one_line() -> None:
    with pytest.raises(ConvertError, match=r"cannot read /proc/self/mem: Input/output error"):
        sha256_of(Path("/proc/self/mem"))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be asked to forget")
def test_the_memory_of_the_file_is_dropped_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not on the disk yet cannot be dropped, so it is flushed first."""
    path = made(tmp_path)
    steps: list[object] = []
    monkeypatch.setattr(os, "fsync", lambda _fd: steps.append("flush"))
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, *rest: steps.append(rest))
    sha256_of(path, lambda done, _total: steps.append(done))
    assert steps == ["flush", (0, 0, os.POSIX_FADV_DONTNEED), 3]
