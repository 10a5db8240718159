"""One run at a time on an output: a file beside it that says who is writing.

Advisory locks of the system do nothing on some network file systems, so the lock is a file that only one process can
create. It is renewed while its owner lives; one whose owner is gone (a dead process of this machine, a reboot, or no
sign of life from another machine for two minutes) is taken over.

`NAME.lock` appears with its content: it is a second name for a draft, `NAME.lock.TOKEN`. Only one process may clear up
after one dead owner: the one that holds `NAME.lock.MARK`, a lock like any other, where MARK tells that dead lock from
all others. So of any number of processes that find a dead lock exactly one gets it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from nemotron_gguf.convert.errors import ConvertError, Interrupted

RENEW = 10.0  # seconds between signs of life
LATE = 3 * RENEW  # seconds without one after which a machine that was started anew holds no lock from before
STALE = 120.0  # seconds without one after which another machine's lock is dead
MAX_BYTES = 4096
TRIES = 10  # each but the last ended because a lock went away at that very moment


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. `place` is one run of one machine (or container), `started` tells reused process ids apart."""

    host: str
    place: str
    pid: int
    started: str
    token: str

    @classmethod
    def myself(cls) -> Owner:
        """This process, with a token of its own."""
        return cls(socket.gethostname(), _place(), os.getpid(), _started(os.getpid()), secrets.token_hex(8))

    def is_dead(self, age: float) -> bool:
        """Whether the owner is certainly gone, `age` being the seconds since its last sign of life."""
        here = Owner.myself()
        if self.host != here.host:
            return age > STALE
        if self.place != here.place:
            # before a reboot, or another machine of the same name; or another container, with process ids of its own
            return age > (LATE if self.place.split(" ")[0] != here.place.split(" ")[0] else STALE)
        if not _lives(self.pid):
            return True
        started = _started(self.pid)
        return started != self.started if started else age > STALE  # where the system does not tell, its signs must


@dataclass(frozen=True)
class Found:
    """A lock that is there: its owner, None where it names none; what tells it from others; whether it is dead."""

    owner: Owner | None
    mark: str
    dead: bool


class Lock:
    """Held within a `with`; `check` raises Interrupted if somebody took it away."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".lock")
        self.owner = Owner.myself()
        self._draft = self.path.with_name(f"{self.path.name}.{self.owner.token}")
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._renewal = threading.Thread(target=self._renew, name="lock", daemon=True)

    def __enter__(self) -> Self:
        try:
            found = self._take()
            if found is not None:
                raise self._taken(found.owner)
            self._sweep()
            self._renewal.start()
        except BaseException as error:
            with suppress(OSError):
                self._draft.unlink(missing_ok=True)
            self._release()
            if isinstance(error, OSError):
                raise ConvertError(f"cannot write in {self.path.parent}: {error.strerror or error}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.put(None)
        try:
            self._release()
        except BaseException:  # Ctrl-C at this very moment
            self._release()
            raise

    @property
    def held(self) -> bool:
        """Whether the lock is still ours."""
        return _read(self.path) == self.owner

    def check(self) -> None:
        """Raise Interrupted where the lock is not ours any more."""
        found = _read(self.path)
        if found != self.owner:
            raise Interrupted(str(self._taken(found)))

    def _take(self) -> Found | None:
        """Get the lock, or find who holds it."""
        draft = self._draft
        for _ in range(TRIES):
            _create(draft, json.dumps(asdict(self.owner)).encode())
            try:
                return _take(self.path, draft)
            except FileNotFoundError:
                continue  # the draft is gone: another process got the lock and cleared up
            finally:
                draft.unlink(missing_ok=True)
        return Found(_read(self.path), "", dead=False)

    def _sweep(self) -> None:
        """Remove what killed processes left; a living one, which comes too late anyway, makes its draft again."""
        for path in self.path.parent.iterdir():
            if path.name.startswith(f"{self.path.name}."):
                with suppress(OSError):
                    path.unlink()

    def _release(self) -> None:
        if self.held:
            with suppress(OSError):  # a lock that stays is that of a process that is gone
                self.path.unlink()

    def _renew(self) -> None:
        while True:
            try:
                self._ended.get(timeout=RENEW)
                return
            except Empty:
                with suppress(OSError):  # `check` tells, when it matters
                    if self.held:
                        os.utime(self.path)

    def _taken(self, owner: Owner | None) -> ConvertError:
        who = f"process {owner.pid} on {owner.host}" if owner else "another process"
        return ConvertError(
            f"{self.output} is being written by {who}; wait for it, or, if that is certainly gone, remove {self.path}"
        )


def _take(path: Path, draft: Path) -> Found | None:
    """Make a draft the lock where there is none or a dead one; returns the lock that stands in the way."""
    for _ in range(TRIES):
        if _link(draft, path):
            return None
        found = _look(path, draft)
        if found is None:
            continue
        if not found.dead:
            return found
        claim = path.with_name(f"{path.name}.{found.mark}")
        rival = _take(claim, draft)
        if rival is not None:
            return rival
        try:
            if _look(path, draft) == found:  # nobody else may change it now
                spare = draft.with_name(draft.name + ".new")
                _link(draft, spare)
                spare.replace(path)
                return None
        finally:
            claim.unlink(missing_ok=True)
    return Found(_read(path), "", dead=False)


def _create(path: Path, content: bytes) -> bool:
    """Make a file; False where there is one."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _link(draft: Path, path: Path) -> bool:
    """Give a file a second name, at once and whole; False where the name is taken."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except (OSError, NotImplementedError):  # a file system without second names
        return _create(path, draft.read_bytes())
    return True


def _look(path: Path, draft: Path) -> Found | None:
    """The lock at a path, its age by the file system's own clock, which another machine may share; None if gone."""
    os.utime(draft)
    now = draft.stat().st_mtime
    try:
        status, content = path.stat(), _content(path)
    except FileNotFoundError:
        return None
    owner, age = _owner(content), now - status.st_mtime
    mark = hashlib.sha256(repr((content, status.st_ino, status.st_mtime_ns)).encode()).hexdigest()[:16]
    return Found(owner, mark, age > STALE if owner is None else owner.is_dead(age))


def _read(path: Path) -> Owner | None:
    """The owner that a lock names; None where there is no lock or nothing sensible in it."""
    try:
        return _owner(_content(path))
    except FileNotFoundError:
        return None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        raise
    except OSError:
        return b""


def _owner(content: bytes) -> Owner | None:
    try:
        value = json.loads(content)
        return Owner(str(value["host"]), str(value["place"]), int(value["pid"]), str(value["started"]), value["token"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _place() -> str:
    """The boot of this machine and the namespace of its process ids, where the system tells them."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{boot.read_text(encoding='ascii').strip()} {namespace.readlink()}"
    except OSError:
        return "- -"


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it there; the signs of life must do
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _started(pid: int) -> str:
    """When a process began, as far as the system tells, which a reused process id does not share."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
