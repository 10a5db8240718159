"""Two runs on one output: the second is refused while the first lives, and takes over once that is certainly gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.writer import lock as locks
from nemotron_gguf.convert.writer.lock import LATE, STALE, Lock, Owner

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Writer


def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lies(folder: Path, content: bytes | Owner, age: float = 0.0) -> Lock:
    """A lock of somebody's lies in the folder; ours, not taken yet."""
    path = folder / "a.gguf.lock"
    path.write_bytes(json.dumps(asdict(content)).encode() if isinstance(content, Owner) else content)
    os.utime(path, (time.time() - age,) * 2)
    return Lock(folder / "a.gguf")


def is_refused(lock: Lock) -> bool:
    before = lock.path.read_bytes() if lock.path.is_file() else b""
    try:
        with lock:
            lock.check()
            assert lock.held
    except ConvertError as error:
        assert "is being written by" in str(error)
        assert str(lock.path) in str(error)
        assert "\n" not in str(error)
        assert [path.name for path in lock.path.parent.iterdir()] == ["a.gguf.lock"]
        assert (lock.path.read_bytes() if lock.path.is_file() else b"") == before
        return True
    assert list(lock.path.parent.iterdir()) == []
    return False


ME = Owner.myself()
BOOT, SPACE = ME.place.split(" ")
OWNERS: dict[str, tuple[Callable[[], Owner], float | None]] = {
    # who holds the lock, and after how many seconds without a sign of life it is taken from him: None is never
    "this process": (lambda: ME, None),
    "a process that is gone": (lambda: replace(ME, pid=gone()), 0),
    "a process number used again": (lambda: replace(ME, started="1"), 0),
    "a number that no process has": (lambda: replace(ME, pid=2**40), STALE),
    "another machine": (lambda: replace(ME, host="elsewhere", pid=gone()), STALE),
    "before a reboot": (lambda: replace(ME, place=f"0000 {SPACE}"), LATE),
    "another container": (lambda: replace(ME, place=f"{BOOT} pid:[1]"), STALE),
}


@pytest.mark.parametrize("who", OWNERS)
def test_whose_lock_is_taken_over(tmp_path: Path, who: str) -> None:
    make, after = OWNERS[who]
    owner = make()
    if after is None:
        assert is_refused(lies(tmp_path, owner, age=10 * STALE))
        return
    assert is_refused(lies(tmp_path, owner, age=after - 5)) == (after > 0)
    assert not is_refused(lies(tmp_path, owner, age=after + 5))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", os.urandom(5000), b'{"pid":1}', b"[" * 3000])
def test_a_lock_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    assert is_refused(lies(tmp_path, content, age=STALE - 5))
    assert not is_refused(lies(tmp_path, content, age=STALE + 5))


def test_a_lock_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def opened(path: Path, *args: Any, **more: Any) -> Any:
        if path.name == "a.gguf.lock" and path.stat().st_mtime < time.time() - 10:
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **more)

    fresh, old = lies(tmp_path, ME, age=STALE - 5), Lock(tmp_path / "a.gguf")
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ConvertError, match="by another process"), fresh:
        pass
    os.utime(old.path, (time.time() - STALE - 5,) * 2)
    with old:
        old.check()


def test_a_folder_in_the_place_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "a.gguf.lock").mkdir()
    assert is_refused(Lock(tmp_path / "a.gguf"))
    os.utime(tmp_path / "a.gguf.lock", (0, 0))
    with pytest.raises(ConvertError, match=r"cannot write in .*: Is a directory"), Lock(tmp_path / "a.gguf"):
        pass


def test_where_the_system_tells_no_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows: the number of a dead process may be another's by now."""
    monkeypatch.setattr(locks, "_started", lambda _: "")
    monkeypatch.setattr(locks, "_place", lambda: "- -")
    owner = Owner.myself()
    assert is_refused(lies(tmp_path, owner, age=STALE - 5))
    assert not is_refused(lies(tmp_path, owner, age=STALE + 5))


def test_where_a_file_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links."""

    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert not is_refused(Lock(tmp_path / "a.gguf"))
    assert is_refused(lies(tmp_path, ME))
    assert not is_refused(lies(tmp_path, replace(ME, started="1")))


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RENEW", 0.02)
    with Lock(tmp_path / "a.gguf") as lock:
        os.utime(lock.path, (0, 0))
        deadline = time.monotonic() + 10
        while lock.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.path.stat().st_mtime > 0
        lock.path.write_text("{}")
        os.utime(lock.path, (0, 0))
        time.sleep(0.1)
        assert lock.path.stat().st_mtime == 0, "it is not ours any more"
        with pytest.raises(Interrupted, match="being written by another process"):
            lock.check()
    assert lock.path.read_text() == "{}"


def test_the_second_writer_is_refused(writer: Writer, place: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(writer.run, place, read_seconds=0.3)
        while not (place / "a.gguf.lock").exists():
            time.sleep(0.01)
        pid = json.loads((place / "a.gguf.lock").read_bytes())["pid"]
        second = writer.run(place)
        assert not first.done()
        assert second.error == "ConvertError"
        assert f"is being written by process {pid} on " in second.message
        assert first.result().done
    assert {path.name: path.read_bytes() for path in place.iterdir()} == writer.truth("tiny")


RACE = """
import os, random, signal, sys, time
from pathlib import Path
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.writer.lock import Lock

folder, rounds, killed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def slow(name, dying):
    real = getattr(os, name)
    def call(*args, **more):
        time.sleep(random.random() * 0.003)
        result = real(*args, **more)
        if dying and random.random() < 0.15:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)

def contend(number, start, end, out):
    random.seed(f"{number} {os.getpid()}")
    for name in ("link", "replace", "unlink", "utime", "stat"):
        slow(name, dying=number < killed)
    os.read(start, 1)  # until all are there
    try:
        Lock(folder / "a.gguf").__enter__()
        os.write(out, b"w")
    except ConvertError:
        os.write(out, b"l")
    os.close(out)
    os.read(end, 1)  # the winner lives until the last has tried
    os._exit(0)  # and leaves its lock, dead, to the next round

for _ in range(rounds):
    pipes = start, end, out = os.pipe(), os.pipe(), os.pipe()
    children = []
    for number in range(10):
        child = os.fork()
        if child == 0:
            for pipe in (start, end): os.close(pipe[1])
            os.close(out[0])
            contend(number, start[0], end[0], out[1])
        children.append(child)
    os.close(out[1]); os.close(start[1])
    ends = b""
    while data := os.read(out[0], 100): ends += data
    os.close(end[1])
    for child in children: os.waitpid(child, 0)
    for number in (start[0], end[0], out[0]): os.close(number)
    print(ends.count(b"w"), len(ends), flush=True)
with Lock(folder / "a.gguf"): pass
print("left", *sorted(path.name for path in folder.iterdir()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("killed", [0, 5])
def test_ten_processes_want_one_dead_lock(tmp_path: Path, killed: int) -> None:
    """Exactly one gets it, every time, also where five of the ten are killed in the middle of it: at most one then."""
    rounds = 25
    result = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), str(rounds), str(killed)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *lines, left = result.stdout.splitlines()
    assert left == "left", "what the killed left is cleared"
    counts = [[int(number) for number in line.split()] for line in lines]
    assert len(counts) == rounds
    if killed:
        assert all(winners <= 1 and told >= 5 for winners, told in counts), counts
        assert sum(told for _, told in counts) < 10 * rounds, "some were killed"
    else:
        assert counts == [[1, 10]] * rounds
