"""Conversations as values: a tree of messages, of which one path is shown, and what the conversation is held with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from nemotron_gguf.ui.attachments import Attachment, compose

Role: TypeAlias = Literal["user", "assistant", "tool"]
State: TypeAlias = Literal["whole", "growing", "cut", "stopped"]
"""Complete; being written; at its end for want of tokens or because the program ended; stopped by somebody."""

ROOT = ""
"""The parent of a conversation's first messages."""


class Facts(Struct, frozen=True, omit_defaults=True):
    """What an answer took: seconds and tokens, the speed in tokens a second, how full the context was after it."""

    thought_seconds: float = 0.0
    thought_tokens: int = 0
    seconds: float = 0.0
    tokens: int = 0
    first_seconds: float = 0.0
    per_second: float = 0.0
    context_used: int = 0
    context_size: int = 0


class Message(Struct, frozen=True, omit_defaults=True):
    """A message; `parent` is the id of the one before it, `chosen` whether it is shown among those beside it."""

    id: str
    parent: str
    role: Role
    content: str = ""
    reasoning: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    files: tuple[Attachment, ...] = ()
    state: State = "whole"
    facts: Facts = Facts()
    created: float = 0.0
    chosen: bool = True


class Wishes(Struct, frozen=True, omit_defaults=True):
    """What a conversation is held with; None leaves it to the file.

    `system`: the system message; `budget`: tokens it may think; `tools`: the names of those that may be called.
    """

    system: str = ""
    thinking: bool = True
    budget: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 30)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 30)] | None = None
    tools: tuple[str, ...] = ()


class Entry(Struct, frozen=True):
    """A conversation in the list; times in seconds since 1970."""

    id: str
    title: str
    pinned: bool
    created: float
    updated: float
    wishes: Wishes = Wishes()


class Chat(Struct, frozen=True):
    """A conversation with all of its messages, in the order in which they were written."""

    entry: Entry
    messages: tuple[Message, ...] = ()

    def path(self) -> list[Message]:
        """The messages that are shown, from the first on."""
        shown: list[Message] = []
        children = _by_parent(self.messages)
        at = ROOT
        while found := children.get(at):
            shown.append(next((one for one in found if one.chosen), found[-1]))
            at = shown[-1].id
        return shown

    def up_to(self, last: str) -> list[Message]:
        """The messages from the first one to that of this id, shown or not."""
        by_id = {one.id: one for one in self.messages}
        found: list[Message] = []
        while last in by_id:
            found.append(by_id[last])
            last = found[-1].parent
        return found[::-1]

    def versions(self, message: Message) -> list[Message]:
        """A message and those that were written in its place, oldest first."""
        return [one for one in self.messages if one.parent == message.parent]

    def message(self, wanted: str) -> Message | None:
        """The message of an id."""
        return next((one for one in self.messages if one.id == wanted), None)


def _by_parent(messages: Iterable[Message]) -> dict[str, list[Message]]:
    children: dict[str, list[Message]] = {}
    for message in messages:
        children.setdefault(message.parent, []).append(message)
    return children


def below(messages: Sequence[Message], top: str) -> set[str]:
    """The ids of a message and of all that follow from it."""
    children, found, ahead = _by_parent(messages), set[str](), [top]
    while ahead:
        found.add(at := ahead.pop())
        ahead += [child.id for child in children.get(at, ()) if child.id not in found]
    return found


def for_model(path: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as templates read them; neighbours of the user's become one."""
    sent: list[dict[str, Any]] = []
    for message in path:
        turn: dict[str, Any] = {"role": message.role, "content": _spoken(message)}
        if message.reasoning:
            turn["reasoning_content"] = message.reasoning
        if message.calls:
            turn["tool_calls"] = [dict(call) for call in message.calls]
        if sent and turn["role"] == sent[-1]["role"] == "user":
            turn["content"] = f"{sent.pop()['content']}\n\n{turn['content']}"
        sent.append(turn)
    return sent


def _spoken(message: Message) -> str:
    """What a message says to the model."""
    return compose(message.content, message.files) if message.files else message.content


def title_of(text: str, longest: int = 60) -> str:
    """A title from the first words that were said."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def arguments_of(call: Mapping[str, Any]) -> tuple[str, Any]:
    """A call's name and its arguments."""
    function = call.get("function", call)
    return str(function.get("name", "")), function.get("arguments", {})
