"""Another program, run within bounds: of time, and of what it says. What it runs in turn ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

POLL = 0.05  # seconds between two looks at whether somebody stopped it
LAST_WORDS = 2.0  # seconds for what stands in the pipes of a program that has ended

Why: TypeAlias = Literal["itself", "time", "output", "stopped"]
"""Why it ended: by itself, its time or its output was used up, or somebody stopped it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit status (negative: the signal), and what it said, cut at the bound."""

    status: int
    out: bytes
    err: bytes
    why: Why


def run_bounded(
    command: Sequence[str],
    *,
    seconds: float,
    most: int,
    stdin: IO[bytes] | None = None,
    stopped: threading.Event | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program for so many seconds at most; of stdout and of stderr `most` bytes are kept, more ends it.

    Raises OSError where it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=dict(env) if env is not None else None,
        **_apart(),
    )
    assert process.stdout and process.stderr
    out, err = _Kept(process.stdout, most), _Kept(process.stderr, most)
    try:
        why = _wait(process, time.monotonic() + seconds, (out, err), stopped)
    finally:
        _end(process)
    return Ended(process.returncode, out.whole(), err.whole(), why)


class _Kept:
    """What comes through a pipe, up to a number of bytes."""

    def __init__(self, pipe: IO[bytes], most: int) -> None:
        self._pipe, self._most, self._data = pipe, most, bytearray()
        self.over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._pipe:
            while piece := os.read(self._pipe.fileno(), 1 << 16):
                room = self._most - len(self._data)
                self._data += piece[:room]
                if len(piece) > room:
                    self.over.set()

    def whole(self) -> bytes:
        self._reader.join(LAST_WORDS)  # a program that it left behind may hold the pipe open
        return bytes(self._data)


def _wait(
    process: subprocess.Popen[bytes], until: float, kept: Sequence[_Kept], stopped: threading.Event | None
) -> Why:
    while True:
        try:
            process.wait(min(POLL, max(until - time.monotonic(), 0.001)))
        except subprocess.TimeoutExpired:
            if any(one.over.is_set() for one in kept):
                return "output"
            if stopped and stopped.is_set():
                return "stopped"
            if time.monotonic() >= until:
                return "time"
        else:
            return "output" if any(one.over.is_set() for one in kept) else "itself"


def _apart() -> dict[str, Any]:
    """Options that put a program in a group of its own: Ctrl-C is not for it, and the group can be ended."""
    if os.name == "posix":
        return {"start_new_session": True}
    return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
