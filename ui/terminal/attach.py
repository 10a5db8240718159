"""What goes with a message in the terminal: the paths of a command, and what comes through a pipe."""

from __future__ import annotations

import os
import shlex
import stat
import sys
import threading
from pathlib import Path

from nemotron_gguf.ui import console
from nemotron_gguf.ui.attachments.encoding import decode, mark_of


def split_paths(words: str) -> list[str]:
    """The paths of a command: one that is there as it stands, or several with quotes as in a shell."""
    if Path(words).expanduser().exists():
        return [words]
    try:
        return [word.strip("\"'") for word in shlex.split(words, posix=sys.platform != "win32")] or [words]
    except ValueError:  # a quote without its end
        return [words]


def read_pipe() -> str:
    """What comes through stdin, empty where it is a terminal or nothing. Raises AttachmentError for what is no text."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty() or not _carries_text():
        return ""
    waiting = threading.Timer(2.0, console.note, ["waiting for the end of what is piped in …"])
    waiting.daemon = True
    waiting.start()
    try:
        return _decode_anyhow(sys.stdin.buffer.read()).strip("\n")
    finally:
        waiting.cancel()


def _decode_anyhow(data: bytes) -> str:
    """What a program wrote: a byte that is no UTF-8, as logs have them, becomes U+FFFD, with a word."""
    name = "what is piped in"
    try:
        data.decode(mark_of(data) or "utf-8")
    except UnicodeDecodeError:
        if b"\0" not in data:
            console.note(f"{name} is no text in UTF-8 throughout; other bytes are shown as �")
            data = data.decode("utf-8", "replace").encode()
    return decode(data, name)[0]


def _carries_text() -> bool:
    """Whether stdin is a pipe, a socket or a file; not a device such as /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # a stream of another program around this one
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
