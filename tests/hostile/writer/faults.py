"""System calls that count, fail, stop half-way, end the process, or are written down; for a process that writes files.

Only calls about files in one folder count. `fsync` and `fdatasync` count and are not made: a kill loses nothing that
the system has taken, and what a power cut loses is another test's matter.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

BY_PATH = ("open", "rename", "replace", "unlink", "remove", "truncate", "link", "utime")
BY_DESCRIPTOR = ("write", "pwrite", "fsync", "fdatasync", "ftruncate")
WRITES = ("write", "pwrite")
Call = Callable[..., Any]


@dataclass(frozen=True)
class Fault:
    """What befalls call number `at`, counted from 1, of all or of those of one `step` such as "replace a.gguf.part".

    `how` is "before" or "after" (a kill then), "torn" (half of it is written, then a kill), "short" (half is written),
    a signal's name (it comes just before) or an error's. With `ever` all later calls of the same name, such as
    "replace", meet the same.
    """

    at: int
    how: str
    ever: bool = False
    step: str | None = None


class Disk:
    """The folder's disk. `share` is memory that survives this process: how many calls there were, and the last."""

    def __init__(self, folder: Path, fault: Fault | None, share: mmap | None = None) -> None:
        self.folder, self.fault, self.share = str(folder), fault, share
        self.names: dict[int, str] = {}  # of open files, by descriptor
        self.count = 0
        self.since = 0.0  # when a signal came
        self.broken: set[str] = set()  # names of calls that fail for good
        self.seen: list[str] = []
        self.trace: list[tuple[str, tuple[Any, ...], Any]] | None = None
        self._counting, self._one_by_one = threading.Lock(), threading.Lock()
        self._io_open: Call = io.open

    def install(self) -> None:
        """Stand between this process and its system, for good."""
        for name in BY_PATH:
            setattr(os, name, self._by_path(name, getattr(os, name)))
        for name in BY_DESCRIPTOR:
            setattr(os, name, self._by_descriptor(name, getattr(os, name)))
        close = os.close

        def forgetting(fd: int) -> None:
            self.names.pop(fd, None)
            close(fd)

        os.close = forgetting
        vars(io)["open"] = self._opened

    def _by_path(self, name: str, real: Call) -> Call:
        def call(*args: Any, **more: Any) -> Any:
            path = os.fspath(args[0]) if isinstance(args[0], str | os.PathLike) else ""
            if not str(path).startswith(self.folder):
                return real(*args, **more)
            plain = (str(path), *(str(arg) if isinstance(arg, os.PathLike) else arg for arg in args[1:]))
            result = self._meet(name, str(path), lambda: real(*args, **more), plain)
            if name == "open":
                self.names[result] = str(path)
            return result

        return call

    def _by_descriptor(self, name: str, real: Call) -> Call:
        def call(descriptor: int, *args: Any) -> Any:
            path = self.names.get(descriptor)
            if path is None:
                return real(descriptor, *args)
            if name in WRITES:
                data, rest = bytes(args[0]), args[1:]
                half = lambda: real(descriptor, data[: (len(data) + 1) // 2], *rest)  # noqa: E731
                whole = lambda: real(descriptor, data, *rest)  # noqa: E731
                return self._meet(name, path, whole, (descriptor, data, *rest), half)
            do = (lambda: None) if name.endswith("sync") else (lambda: real(descriptor, *args))
            return self._meet(name, path, do, (descriptor, *args))

        return call

    def _opened(self, file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        """`io.open`, whose files write without `os.write`."""
        path = self.names.get(file) if isinstance(file, int) else str(file)
        if path is None or not path.startswith(self.folder) or mode not in ("rb", "wb"):
            return self._io_open(file, mode, *args, **more)
        if isinstance(file, int):
            return io.BufferedWriter(_Raw(self, path, file, mode))
        if mode == "rb":
            return self._meet("open", path, lambda: self._io_open(file, mode, *args, **more), (path, os.O_RDONLY))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        raw = self._meet("open", path, lambda: _Raw(self, path, file, mode), (path, flags))
        return io.BufferedWriter(raw)

    def _meet(self, name: str, path: str, do: Call, args: tuple[Any, ...], half: Call | None = None) -> Any:
        """Make a call, unless something befalls it."""
        step = f"{name} {self._kind(path)}"
        with self._counting:
            self.count += 1
            self.seen.append(step)
            how = self._how(name, step)
            if self.share is not None:
                self.share[:64] = f"{self.count} {step}".encode().ljust(64)[:64]
        if how == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if how is not None and how.startswith("SIG"):
            self.since = time.monotonic()
            os.kill(os.getpid(), signal.Signals[how])
            how = None
        if how in ("torn", "short") and half is not None:
            result = half()
        elif how in ("after", "torn", "short", None):
            result = self._traced(name, do, args)
        else:
            raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)))
        if how in ("after", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def _how(self, name: str, step: str) -> str | None:
        fault = self.fault
        if fault is None:
            return None
        hit = self.count == fault.at if fault.step is None else (step, self.seen.count(step)) == (fault.step, fault.at)
        if hit and fault.ever:
            self.broken.add(name)
        return fault.how if hit or name in self.broken else None

    def _traced(self, name: str, do: Call, args: tuple[Any, ...]) -> Any:
        if self.trace is None:
            return do()
        with self._one_by_one:  # so that the order written down is the order that was
            result = do()
            number = result.fileno() if isinstance(result, io.IOBase) else result
            self.trace.append((name, args, number))
            return result

    def _kind(self, path: str) -> str:
        """Which file it is, without what differs from run to run: `a.gguf.part`, `.lock.TOKEN`."""
        name = path[len(self.folder) :].lstrip("/") or "folder"
        return re.sub(r"\.lock\.[0-9a-f]{16}(\.new)?", ".lock.TOKEN", name)


class _Raw(io.FileIO):
    """A file opened by `io.open` to be written."""

    def __init__(self, disk: Disk, path: str, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self.disk, self.path = disk, path
        disk.names[self.fileno()] = path

    def write(self, data: Any) -> int:
        real, view = super().write, bytes(data)
        written: int = self.disk._meet(
            "write", self.path, lambda: real(view), (self.fileno(), view), lambda: real(view[: (len(view) + 1) // 2])
        )
        return written
