"""One run at a time on an output: a file beside it that says who is writing.

Advisory locks of the system do nothing on some network file systems, so the lock is a file that only one process can
create. It is renewed while its owner lives; one whose owner is gone (a dead process of this machine, a reboot, or no
sign of life from another machine for two minutes) is taken over.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nemotron_gguf.convert.errors import ConvertError, Interrupted

RENEW = 10.0  # seconds between signs of life
STALE = 120.0  # seconds without one after which another machine's lock is dead
MAX_BYTES = 4096


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
        if self.place != here.place:  # before a reboot; or another container, where process ids mean something else
            return age > STALE or self.place.split()[0] != here.place.split()[0]
        return not _lives(self.pid) or _started(self.pid) != self.started


class Lock:
    """Held within a `with`; `check` raises Interrupted if somebody took it away."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".lock")
        self.owner = Owner.myself()
        self._ended = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="lock", daemon=True)

    def __enter__(self) -> Self:
        try:
            for _ in range(3):
                if self._create():
                    self._renewal.start()
                    return self
                self._clear_dead()
        except OSError as error:
            raise ConvertError(f"cannot write in {self.path.parent}: {error.strerror or error}") from error
        raise self._taken(_read(self.path))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._renewal.ident is not None:
            self._renewal.join()
        if _read(self.path) == self.owner:
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise Interrupted where the lock is not ours any more."""
        found = _read(self.path)
        if found != self.owner:
            raise Interrupted(str(self._taken(found)))

    def _create(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self.owner), file)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.path.unlink(missing_ok=True)  # on a full disk: half a lock would keep the next run out
            raise
        return True

    def _clear_dead(self) -> None:
        """Move a dead owner's lock aside; raise ConvertError where the owner lives."""
        owner = _read(self.path)
        age = self._age()
        if age is None:
            return  # gone meanwhile
        dead = age > STALE if owner is None else owner.is_dead(age)
        if not dead:
            raise self._taken(owner)
        aside = self.path.with_name(f"{self.path.name}.{self.owner.token}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if _read(aside) != owner and not self.path.exists():  # another run was quicker, and this is its lock
            aside.rename(self.path)
            raise self._taken(_read(self.path))
        aside.unlink(missing_ok=True)

    def _age(self) -> float | None:
        """Seconds since the last sign of life by the file system's own clock, which another machine may share."""
        probe = self.path.with_name(f"{self.path.name}.{self.owner.token}")
        try:
            probe.touch()
            now = probe.stat().st_mtime
            return now - self.path.stat().st_mtime
        except FileNotFoundError:
            return None
        finally:
            probe.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW):
            try:
                if _read(self.path) == self.owner:
                    os.utime(self.path)
            except OSError:
                continue  # `check` tells, when it matters

    def _taken(self, owner: Owner | None) -> ConvertError:
        who = f"process {owner.pid} on {owner.host}" if owner else "another process"
        return ConvertError(
            f"{self.output} is being written by {who}; wait for it, or, if that is certainly gone, remove {self.path}"
        )


def _read(path: Path) -> Owner | None:
    """The owner that a lock names; None where there is no lock or nothing sensible in it."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_BYTES))
        return Owner(str(value["host"]), str(value["place"]), int(value["pid"]), str(value["started"]), value["token"])
    except (OSError, ValueError, KeyError, TypeError):
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
        return True  # os.kill would end it there; the token's start time and the signs of life must do
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    """When a process began, as far as the system tells, which a reused process id does not share."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
