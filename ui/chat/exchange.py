"""Conversations as files: JSON that can be read again without loss, Markdown to be read by people."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from nemotron_gguf.ui.chat.errors import ExchangeError
from nemotron_gguf.ui.chat.tree import ROOT, Chat, Message, arguments_of

FORMAT = "nemotron-gguf conversations"
VERSION = 1
LARGEST = 256 << 20  # bytes


class Exchanged(msgspec.Struct, forbid_unknown_fields=True):
    """What such a file holds."""

    format: str
    version: int
    conversations: list[Chat]


def to_json(chats: Sequence[Chat]) -> bytes:
    """Conversations with every branch and setting."""
    data = msgspec.json.encode(Exchanged(FORMAT, VERSION, list(chats)))
    return msgspec.json.format(data, indent=1) + b"\n"


def from_json(data: bytes) -> list[Chat]:
    """What `to_json` wrote. Raises ExchangeError for anything else."""
    if len(data) > LARGEST:
        raise ExchangeError(f"the file has {len(data)} bytes, more than conversations have ({LARGEST}); split it")
    try:
        begun = msgspec.json.decode(data)
        if not isinstance(begun, dict) or begun.get("format") != FORMAT:
            raise ExchangeError(f"this file holds no conversations: its format is not {FORMAT!r}; export makes such")
        if begun.get("version") != VERSION:
            raise ExchangeError(
                f"the file has version {begun.get('version')!r}, expected {VERSION}; update this program"
            )
        chats = msgspec.convert(begun, Exchanged).conversations
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ExchangeError(f"this file holds no sound conversations: {error}; export them again") from error
    for chat in chats:
        _check(chat)
    return chats


def _check(chat: Chat) -> None:
    """Raises ExchangeError where a message's id is used twice, or follows none that was written before it."""
    seen = {ROOT}
    for message in chat.messages:
        if message.id in seen or message.parent not in seen:
            raise ExchangeError(f"the conversation {chat.entry.title!r} is no tree at message {message.id!r}")
        seen.add(message.id)


def to_markdown(chat: Chat, model: str) -> str:
    """The path that is shown, for people."""
    parts = [f"# {_line(chat.entry.title)}"]
    if chat.entry.wishes.system:
        parts += ["## System", chat.entry.wishes.system.strip()]
    for message in chat.path():
        parts += _spoken(message, model)
    return "\n\n".join(parts) + "\n"


def _spoken(message: Message, model: str) -> list[str]:
    parts = [{"user": "## You", "assistant": f"## {_line(model)}"}.get(message.role, "## Tool")]
    parts += [f"*{_line(file.name)}*" for file in message.files]
    if message.reasoning:
        parts.append(f"<details><summary>Reasoning</summary>\n\n{message.reasoning.strip()}\n\n</details>")
    if message.content:
        parts.append(message.content.strip())
    for call in message.calls:
        name, arguments = arguments_of(call)
        parts.append(f"```json\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n```")
    return parts


def _line(text: str) -> str:
    return " ".join(text.split())
