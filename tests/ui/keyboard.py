"""A program in a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte

SCRIPTED = Path(__file__).parent / "scripted_talk.py"
SECONDS = 15.0


class Keyboard:
    """Type, and read the screen; `raw` is every byte that the program wrote."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes], columns: int, rows: int) -> None:
        self.fd, self.process, self.raw = fd, process, b""
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000)
        setattr(self.screen, "write_process_input", self.type)  # noqa: B010 - answers of the terminal, such as where the cursor is
        self.stream = pyte.ByteStream(self.screen)

    def type(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the program may have left
            os.write(self.fd, text.encode())

    def paste(self, text: str) -> None:
        self.type(f"\x1b[200~{text}\x1b[201~")

    def interrupt(self) -> None:
        """Ctrl-C, as the key."""
        self.type("\x03")

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    @property
    def mode(self) -> list[Any]:
        """The terminal's settings: whether keys are echoed, and so on."""
        return termios.tcgetattr(self.fd)

    def text(self) -> str:
        """All that stands on the screen and has scrolled out of it."""
        gone = ["".join(row[x].data for x in range(self.screen.columns)) for row in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*gone, *self.screen.display])

    def read(self, seconds: float = 0.1) -> None:
        """Take in what the program writes within that time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                return
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # the program has left
                return
            self.raw += data
            self.stream.feed(data)

    def wait_for(self, text: str, times: int = 1, seconds: float = SECONDS) -> str:
        """Read until `text` has appeared that often; returns everything."""
        end = time.monotonic() + seconds
        while (shown := self.text()).count(text) < times:
            assert time.monotonic() < end, f"{text!r} did not come {times} times; seen:\n{shown}"
            self.read()
        return shown

    def ask(self, line: str) -> str:
        """Send a message, once there is a prompt, and wait for the end of its answer."""
        before = self.text().count("tokens/s")
        self.type(line + "\r")
        shown = self.wait_for("tokens/s", before + 1)
        self.wait_for_prompt()
        return shown

    def wait_for_prompt(self) -> None:
        """Until the last row begins with the prompt's mark."""
        end = time.monotonic() + SECONDS
        while not self.text().rstrip("\n").rpartition("\n")[2].startswith(("> ", ">")):
            assert time.monotonic() < end, f"no prompt came; seen:\n{self.text()}"
            self.read()
        self.read(0.05)  # its editor begins to read keys

    def wait(self) -> int:
        """The exit status of the program."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        self.read()
        return self.process.wait(1)


@contextmanager
def keyboard(
    *options: str,
    command: Sequence[str] = (sys.executable, str(SCRIPTED)),
    size: tuple[int, int] = (80, 24),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Keyboard]:
    """A program at a keyboard, by default the scripted chat; `size` in columns and rows."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    outer = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    wished = {"TERM": "xterm-256color", "PYTHONUTF8": "1", "NEMOTRON_HISTORY": "off", **(environment or {})}
    with subprocess.Popen(
        [*command, *options],
        stdin=side,
        stdout=side,
        stderr=side,
        env=outer | wished,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
    ) as process:
        os.close(side)
        try:
            yield Keyboard(main, process, *size)
        finally:
            process.kill()
            os.close(main)
