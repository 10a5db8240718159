"""What was typed in earlier sessions, in a file that only its owner can read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

LONGEST = 20_000  # characters of a message that is remembered
LARGEST = 4 << 20  # bytes of the file; beyond that its older half is forgotten


def open_history() -> History:
    """The history of this user: `chat-history` in the state folder, or the file that NEMOTRON_HISTORY names.

    NEMOTRON_HISTORY=off keeps nothing. Where the file cannot be written, the session has a history of its own.
    """
    wish = os.environ.get("NEMOTRON_HISTORY", "").strip()
    if wish.lower() in ("off", "0", "no", "false"):
        return InMemoryHistory()
    path = Path(wish).expanduser() if wish else _folder() / "chat-history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _create(path)
        _shorten(path)
    except OSError:
        return InMemoryHistory()
    return PrivateHistory(path)


class PrivateHistory(FileHistory):
    """A file history that is created for its owner alone, and never stops a chat."""

    def store_string(self, string: str) -> None:
        """Remember a message."""
        if len(string) > LONGEST:
            return
        try:
            _create(Path(os.fsdecode(self.filename)))
            super().store_string(string)
        except OSError:  # a full disk; the message itself is on its way
            return

    def load_history_strings(self) -> Iterator[str]:
        """What was typed, the latest first."""
        try:
            yield from super().load_history_strings()
        except OSError:
            return


def _folder() -> Path:
    from platformdirs import user_state_path

    return user_state_path("nemotron-gguf", appauthor=False)


def _create(path: Path) -> None:
    """Make the file where it is missing, for its owner alone."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


def _shorten(path: Path) -> None:
    """Keep the later half of a file that became too large, from the beginning of a message on."""
    if path.stat().st_size <= LARGEST:
        return
    data = path.read_bytes()
    begin = data.find(b"\n# ", len(data) - LARGEST // 2)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    _create(part)
    part.write_bytes(data[begin:] if begin >= 0 else b"")
    part.replace(path)
