"""The engine's process as the front sees it: started, spoken with, and its death explained."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from queue import SimpleQueue
from typing import IO, Any

from nemotron_gguf.runner.errors import BY_NAME, EngineDiedError, RunnerError
from nemotron_gguf.runner.process.channel import BadMessage, Channel, ChannelClosed
from nemotron_gguf.runner.process.memory_messages import Anticipate
from nemotron_gguf.runner.process.messages import Cancel, EndThinking, Failed, Reply, Request, Task

LAST_LINES = 40  # of what the process wrote to stderr, kept to explain its death
PATIENCE = 5.0  # seconds for a process to end by itself


class Mailbox:
    """Bodies of a task's replies in their order; None once the process has ended."""

    def __init__(self) -> None:
        self._bodies: SimpleQueue[Any] = SimpleQueue()
        self.woken: Callable[[], object] | None = None  # called after each one that comes, by another thread

    def put(self, body: Any) -> None:
        """One has come."""
        self._bodies.put(body)
        if self.woken:
            self.woken()

    def get(self, timeout: float | None = None) -> Any:
        """The next; raises queue.Empty after `timeout` seconds."""
        return self._bodies.get(timeout=timeout)

    def get_nowait(self) -> Any:
        """The next; raises queue.Empty where none has come."""
        return self._bodies.get_nowait()


class EngineProcess:
    """One process; it is used until it ends, and never started again (`Client` starts another)."""

    def __init__(self, *, verbose: bool = False) -> None:
        """Start it; `verbose` passes its stderr on. Raises EngineDiedError where the system cannot start it."""
        self.verbose = verbose
        self._numbers = count(1)
        self._waiting: dict[int, Mailbox] = {}
        self._lock = threading.Lock()  # of `_waiting` and `ended`
        self.ended = False
        self.closing = False
        self.workers: tuple[str, ...] = ()  # HOST:PORT of RPC workers that it depends on
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        try:
            self.process = subprocess.Popen(_command(), env=_environment(), **_apart())
        except OSError as error:
            raise EngineDiedError(f"the engine's process could not be started: {error.strerror or error}") from error
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.channel = Channel(self.process.stdout, self.process.stdin, Reply)  # type: ignore[arg-type]
        self._errors = _in_background("engine-stderr", self._drain, self.process.stderr)
        self._listener = _in_background("engine-replies", self._listen)

    def ask(self, task: Task) -> tuple[int, Mailbox]:
        """Give it a task; its number, and where its replies come. Raises EngineDiedError where it has ended."""
        number, replies = next(self._numbers), Mailbox()
        with self._lock:
            if self.ended:
                raise EngineDiedError(self.obituary())
            self._waiting[number] = replies
        try:
            self.channel.send(Request(number, task))
        except BadMessage as error:
            self.forget(number)
            raise RunnerError(f"the request cannot be sent: {error}") from error
        except ChannelClosed:
            raise EngineDiedError(self.obituary()) from None
        return number, replies

    def tell(self, word: Cancel | EndThinking | Anticipate) -> None:
        """Say something about a task that was given; nothing happens where the process has ended."""
        with contextlib.suppress(ChannelClosed):
            self.channel.send(Request(0, word))

    def forget(self, number: int) -> None:
        """Nobody waits for that task's replies any more."""
        with self._lock:
            self._waiting.pop(number, None)

    def obituary(self) -> str:
        """One sentence: how the process ended and what to do."""
        for thread in (self._listener, self._errors):  # the one knows the status, the other the last words
            thread.join(PATIENCE)
        return _explain(self.process.poll(), list(self._last), self.workers)

    def close(self) -> None:
        """End it: politely first."""
        self.closing = True
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()  # it leaves when it hears nothing more
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in (self._listener, self._errors):
            if thread is not threading.current_thread():
                thread.join(PATIENCE)

    def _listen(self) -> None:
        """Hand out the replies until the process ends; then tell everybody who waits."""
        try:
            while True:
                reply = self.channel.receive()
                waiting = self._waiting.get(reply.number)
                if waiting is not None:
                    waiting.put(reply.body)
        except (ChannelClosed, BadMessage):  # the latter would be a mistake of our own
            pass
        self._bury()

    def _bury(self) -> None:
        """It no longer answers: make sure that it is gone, and wake everybody who waits."""
        with self._lock:
            self.ended = True
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with self._lock:
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for replies in waiting:
            replies.put(None)

    def _drain(self, stream: IO[bytes]) -> None:
        """Keep the last lines of stderr, and pass them on where wanted."""
        for raw in stream:
            line = raw.decode("utf-8", "replace")
            self._last.append(line.rstrip())
            if self.verbose:
                sys.stderr.write(line)
                sys.stderr.flush()


def as_error(process: EngineProcess, body: Failed | None) -> RunnerError:
    """The error that a last reply stands for; None: the process has ended."""
    if body is None:
        if process.closing:
            return RunnerError("the model was closed while it was working")
        return EngineDiedError(process.obituary())
    assert isinstance(body, Failed), body
    return BY_NAME[body.error](body.message)


def _command() -> list[str]:
    # -P: no module of the folder that somebody happens to stand in
    return [sys.executable, "-P", "-m", "nemotron_gguf.runner.engine"]


def _environment() -> dict[str, str]:
    # ggml's backtrace starts a debugger, which takes seconds to say what the assertion has said
    return {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "GGML_NO_BACKTRACE": "1"}


def _apart() -> dict[str, Any]:
    """Pipes, and a process group of its own: Ctrl-C in the terminal is for the front."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    if sys.platform == "win32":
        return {**pipes, "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {**pipes, "process_group": 0}


def _in_background(name: str, target: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


def _explain(status: int | None, lines: list[str], workers: Sequence[str]) -> str:
    """Why a process ended with that status, from what it wrote at last."""
    words = next((line for line in reversed(lines) if "GGML_ASSERT" in line or "error" in line.lower()), "")
    words = words or next((line for line in reversed(lines) if line.strip()), "")
    words = re.sub(r"\S*[/\\](\S+?:\d+)", r"\1", words)  # not where it was built
    if any("RPC" in line for line in lines[-5:]):
        which = (
            f"one of the RPC workers {', '.join(workers)}" if len(workers) > 1 else f"the RPC worker {''.join(workers)}"
        )
        return f"the engine's process ended because {which} no longer answers ({words}); restart it and ask again"
    if status is not None and status < 0 and -status == getattr(signal, "SIGKILL", 9):
        return (
            "the engine's process was killed, by somebody or by the system for want of memory; ask again and a fresh"
            " one starts (a smaller --ctx-size or fewer --n-gpu-layers need less memory)"
        )
    how = _how(status)
    because = f": {' '.join(words.split())[:300]}" if words else ""
    return f"the engine's process ended ({how}){because}; ask again and a fresh one starts"


def _how(status: int | None) -> str:
    if status is None:
        return "it no longer answers"
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        return names.get(-status, f"signal {-status}")
    return f"exit status {status}"
