"""While an answer comes: a clock that ticks, and the keys that are pressed, none of which may garble the screen."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENOUGH = "\x14"  # Ctrl-T
TICK = 0.08  # seconds between two drawings
PASTES_MARKED, PASTES_BARE = "\x1b[?2004h", "\x1b[?2004l"  # xterm: whether a paste is told from keys


class Ticker:
    """Calls `tick` a dozen times a second in a thread of its own, and `enough` where Ctrl-T is pressed.

    What else is pressed is kept in `typed`, as it came, for the next message.
    """

    def __init__(
        self,
        tick: Callable[[], None],
        enough: Callable[[], None] | None = None,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        """Without `enough`, the keyboard is left alone. `resumed`: Ctrl-Z had put the program aside."""
        self.tick, self.enough, self.resumed = tick, enough, resumed
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self.decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self.typed = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tick until the end of the block."""
        with _single_keys(self.resumed) if self.enough else contextlib.nullcontext():
            self.thread.start()
            try:
                yield
            finally:
                self.over.set()
                self.thread.join()
                if self.enough:
                    self._take()

    def _run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone; the main thread will see that too
            pause = TICK
            while not self.over.is_set():
                if self.enough and _wait(pause):
                    self._take()
                elif not self.enough:
                    self.over.wait(pause)
                started = time.monotonic()
                self.tick()
                pause = max(TICK, 4 * (time.monotonic() - started))  # drawing takes a fifth of a core at most

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            text = self.decoder.decode(_pressed())
            if ENOUGH in text and self.enough:
                self.enough()
            self.typed += text.replace(ENOUGH, "")


if sys.platform == "win32":
    import msvcrt

    @contextmanager
    def _single_keys(resumed: Callable[[], None]) -> Iterator[None]:  # noqa: ARG001 - there is no Ctrl-Z
        yield

    def _wait(seconds: float) -> bool:
        time.sleep(seconds)
        return msvcrt.kbhit()

    def _pressed() -> bytes:
        keys = ""
        while msvcrt.kbhit():
            keys += msvcrt.getwch()
        return keys.encode("utf-8", "ignore")

else:
    import select
    import termios

    @contextmanager
    def _single_keys(resumed: Callable[[], None]) -> Iterator[None]:
        """Keys come one by one and unseen; Ctrl-C and Ctrl-Z mean what they always do."""
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)

        def resume() -> None:
            _set(fd, _changed(before))
            _say(PASTES_MARKED)
            resumed()

        with _after_a_pause(resume):
            _set(fd, _changed(before))
            _say(PASTES_MARKED)
            try:
                yield
            finally:
                _say(PASTES_BARE)
                _set(fd, before)

    def _set(fd: int, mode: list[Any]) -> None:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSANOW, mode)

    def _say(word: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(word)
            sys.stderr.flush()

    def _changed(mode: list[Any]) -> list[Any]:
        flags = mode[3] & ~(termios.ICANON | termios.ECHO | termios.IEXTEN)  # IEXTEN: Ctrl-T is the system's on BSD
        symbols = list(mode[6])
        symbols[termios.VMIN], symbols[termios.VTIME] = 1, 0
        return [*mode[:3], flags, *mode[4:6], symbols]

    @contextmanager
    def _after_a_pause(go_on: Callable[[], None]) -> Iterator[None]:
        """A program put aside with Ctrl-Z finds the terminal as its shell left it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def resume(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of signal handlers
            go_on()

        before = signal.signal(signal.SIGCONT, resume)
        try:
            yield
        finally:
            signal.signal(signal.SIGCONT, before)

    def _wait(seconds: float) -> bool:
        return bool(select.select([sys.stdin.fileno()], [], [], seconds)[0])

    def _pressed() -> bytes:
        """What lies in the keyboard's buffer; nothing where that is empty."""
        found = b""
        while _wait(0):
            piece = os.read(sys.stdin.fileno(), 4096)
            if not piece:
                time.sleep(TICK)  # the end of input, which stays
                break
            found += piece
        return found
