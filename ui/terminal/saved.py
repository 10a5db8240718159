"""A conversation in a file: JSON that can be loaded again, or Markdown to be read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.ui import console
from nemotron_gguf.ui.terminal.safe import whole

FORMAT = "nemotron-gguf conversation"
VERSION = 1
LARGEST = 256 << 20  # bytes


class Message(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A turn, as chat templates know it."""

    role: Literal["user", "assistant", "tool"]
    content: str
    reasoning_content: str = ""
    tool_calls: list[dict[str, Any]] = []


class Saved(msgspec.Struct):
    """A conversation with the settings that it was held with."""

    format: str
    version: int
    model: str
    saved: str
    messages: list[Message]
    system: str | None = None
    thinking: bool = True
    budget: Annotated[int, msgspec.Meta(ge=0)] | None = None
    low_effort: bool = False


def now() -> str:
    """The time of saving, with its offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def save(saved: Saved, path: Path, *, replace: bool = False) -> int:
    """Write a conversation, as Markdown where the name ends in .md; returns the bytes.

    The file appears when it is complete. Raises RunnerError where it is there already, unless `replace` is set, or
    cannot be written.
    """
    if path.suffix.lower() in (".md", ".markdown"):
        data = _markdown(saved).encode("utf-8", "replace")
    else:
        data = msgspec.json.format(msgspec.json.encode(saved), indent=1) + b"\n"
    try:
        _write(path, data, replace)
    except FileExistsError as error:
        raise RunnerError(f"{path} is there already; /save! {path} replaces it") from error
    except OSError as error:
        raise RunnerError(f"{path} cannot be written: {error.strerror or error}") from error
    return len(data)


def load(path: Path) -> Saved:
    """Read a conversation. Raises RunnerError for a file that is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise RunnerError(f"{path} has {console.size(path.stat().st_size)}, which no conversation has")
        data = path.read_bytes()
    except OSError as error:
        raise RunnerError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        begun = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunnerError(f"{path} is no saved conversation: it is no JSON ({error})") from error
    if not isinstance(begun, dict) or begun.get("format") != FORMAT:
        raise RunnerError(f"{path} is no saved conversation: its format is not {FORMAT!r}; /save makes such files")
    if begun.get("version") != VERSION:
        raise RunnerError(f"{path} has version {begun.get('version')!r}, expected {VERSION}; use a newer nemotron-gguf")
    try:
        return msgspec.convert(begun, Saved)
    except msgspec.ValidationError as error:
        raise RunnerError(f"{path} is no sound conversation: {error}") from error


def as_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a conversation holds them."""
    return [msgspec.to_builtins(message) for message in messages]


def from_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation's messages as they are saved."""
    return [msgspec.convert(_whole(message), Message) for message in messages]


def _whole(value: Any) -> Any:
    """The same value with texts that can be written as UTF-8."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, Mapping):
        return {whole(str(key)): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else value


def _write(path: Path, data: bytes, replace: bool) -> None:
    """Write beside the target, then name it; a conversation is for its owner's eyes (0600)."""
    if not replace and path.exists():
        raise FileExistsError
    handle, part = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(part).replace(path)
        else:
            _name(Path(part), path)
    finally:
        with contextlib.suppress(OSError):
            Path(part).unlink()


def _name(part: Path, path: Path) -> None:
    """Name a file without replacing one that has appeared meanwhile, where the file system can."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        part.rename(path)


def _markdown(saved: Saved) -> str:
    parts = [f"# A conversation with {saved.model}", f"*{saved.saved}*"]
    if saved.system:
        parts += ["## System", saved.system]
    for message in saved.messages:
        parts.append({"user": "## You", "assistant": f"## {saved.model}"}.get(message.role, "## Tool"))
        if message.reasoning_content:
            parts.append(f"<details><summary>Thoughts</summary>\n\n{message.reasoning_content.strip()}\n\n</details>")
        if message.content:
            parts.append(message.content.strip())
        for call in message.tool_calls:
            parts.append(f"```json\n{msgspec.json.encode(call).decode()}\n```")
    return "\n\n".join(parts) + "\n"
