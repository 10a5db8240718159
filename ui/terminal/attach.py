"""Texts that go with a message: files, and what comes through a pipe."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import stat
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.ui import console
from nemotron_gguf.ui.terminal.safe import whole

LARGEST = 16 << 20  # bytes; more than any context holds
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text with the name that the model is told, empty for a pipe's."""

    name: str
    text: str

    def describe(self) -> str:
        """Name and size for a person."""
        lines = self.text.count("\n") + (not self.text.endswith("\n"))
        shown = self.name if self.name.isprintable() else ascii(self.name)
        size = console.size(len(self.text.encode("utf-8", "replace")))
        return f"{shown or 'the pipe'}: {size}, {lines} line{'' if lines == 1 else 's'}"


def read_file(path: str) -> Attachment:
    """A text file. Raises RunnerError for what is missing, too large or no text."""
    found = Path(path).expanduser()
    try:
        with found.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RunnerError(f"{path} is no regular file; give a text file")
            if status.st_size > LARGEST:
                size, most = console.size(status.st_size), console.size(LARGEST)
                raise RunnerError(f"{path} has {size}, at most {most} can be attached; give a part of it")
            return Attachment(found.name, decode(file.read(), path))
    except IsADirectoryError as error:
        raise RunnerError(f"{path} is a folder; give the files in it that matter") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunnerError(f"{path} cannot be read: {why}") from error


def decode(data: bytes, name: str) -> str:
    """Bytes as text: UTF-8, or UTF-16 with its mark. Raises RunnerError for what is no text."""
    encoding = next((value for mark, value in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise RunnerError(
            f"{name} is no text in UTF-8 (byte {error.start} is 0x{data[error.start]:02x}); convert it first"
        ) from error
    if "\0" in text:
        raise RunnerError(f"{name} is binary (it has zero bytes); only texts can be attached")
    return text.replace("\r\n", "\n")


def split_paths(words: str) -> list[str]:
    """The paths of a command: one that is there as it stands, or several with quotes as in a shell."""
    if Path(words).expanduser().exists():
        return [words]
    try:
        return [word.strip("\"'") for word in shlex.split(words, posix=sys.platform != "win32")] or [words]
    except ValueError:  # a quote without its end
        return [words]


def compose(message: str, attached: Sequence[Attachment]) -> str:
    """A message with its attachments behind it, each in a fence that nothing in it can close."""
    parts = [whole(message)] if message.strip() else []
    for one in attached:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", one.text)), default=0))
        title = f"`{whole(one.name)}`:\n" if one.name else ""
        parts.append(f"{title}{fence}\n{one.text.removesuffix(chr(10))}\n{fence}")
    return "\n\n".join(parts)


def read_pipe() -> str:
    """What comes through stdin, empty where it is a terminal or nothing. Raises RunnerError for what is no text."""
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
        return decode(data, name)
    except RunnerError:
        if b"\0" in data:
            raise
        console.note(f"{name} is no text in UTF-8 throughout; other bytes are shown as �")
        return decode(data.decode("utf-8", "replace").encode(), name)


def _carries_text() -> bool:
    """Whether stdin is a pipe, a socket or a file; not a device such as /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # a stream of another program around this one
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
