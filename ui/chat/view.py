"""What the page shows of a conversation: rows of the chatbot, and marks that say which message stands where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nemotron_gguf.ui.attachments import fenced
from nemotron_gguf.ui.chat.generation import Progress
from nemotron_gguf.ui.chat.markdown import shown
from nemotron_gguf.ui.chat.tree import Chat, Message, arguments_of

Row: TypeAlias = dict[str, Any]
"""A message as Gradio's chatbot shows it: role, content, and a title in `metadata` for what is folded."""

Words: TypeAlias = Mapping[str, str]


def rows_of(path: Sequence[Message], words: Words) -> list[Row]:
    """The rows of messages that are complete."""
    return [row for message in path for row in rows_of_message(message, words)]


def rows_of_message(message: Message, words: Words) -> list[Row]:
    """A question; or an answer, its reasoning and its calls each in a folded block."""
    if message.role == "user":
        files = [{"role": "user", "content": f"📎 {plain(file.name)}"} for file in message.files]
        return [*files, {"role": "user", "content": shown(message.content)}]
    if message.role == "tool":
        return [_folded(fenced(message.content), "→", "", done=True)]
    rows: list[Row] = []
    if message.reasoning:
        rows.append(_folded(shown(message.reasoning), words["thought"], _cost(message, words), done=True))
    if message.content or not (message.reasoning or message.calls):
        rows.append({"role": "assistant", "content": shown(message.content)})
    for call in message.calls:
        name, arguments = arguments_of(call)
        rows.append(_folded(fenced(as_json(arguments), "json"), words["call"].format(plain(name)), "", done=True))
    if note := {"cut": "is_cut", "stopped": "stopped", "growing": "elsewhere"}.get(message.state):
        rows.append({"role": "assistant", "content": f"*({words[note]})*"})
    return rows


def live_rows(progress: Progress, words: Words) -> list[Row]:
    """The rows of an answer that is being written: its reasoning is open while it grows."""
    message = progress.message
    rows: list[Row] = []
    if message.reasoning:
        done = bool(message.content) or progress.phase not in ("thinking", "waiting", "reading")
        title = words["thought"] if done else words["thinks"]
        rows.append(_folded(shown(message.reasoning), title, _cost(message, words), done=done))
    if message.content:
        rows.append({"role": "assistant", "content": shown(message.content)})
    if not rows:
        waiting = words["reads"].format(*progress.read) if progress.phase == "reading" else words["waits"]
        rows.append({"role": "assistant", "content": f"*{waiting}*"})
    return rows


def marks_of(chat: Chat, path: Sequence[Message], words: Words) -> list[dict[str, Any]]:
    """What stands in each group of rows of one role: the message, which version it is of how many, and the labels."""
    groups: list[list[Message]] = []
    for message in path:
        if groups and (groups[-1][0].role == "user") == (message.role == "user"):
            groups[-1].append(message)
        else:
            groups.append([message])
    return [_mark(chat, group, words) for group in groups]


def _mark(chat: Chat, group: Sequence[Message], words: Words) -> dict[str, Any]:
    first = group[0]
    beside = chat.versions(first)
    at = next(number for number, one in enumerate(beside) if one.id == first.id)
    mark: dict[str, Any] = {"id": first.id, "delete": words["delete"], "sure": words["sure"]}
    if len(beside) > 1:
        mark |= {
            "version": words["version"].format(at + 1, len(beside)),
            "shown": f"{at + 1} / {len(beside)}",
            "earlier": beside[at - 1].id if at else "",
            "later": beside[at + 1].id if at + 1 < len(beside) else "",
            "labels": [words["earlier"], words["later"]],
        }
    return mark


def owners(path: Sequence[Message], words: Words) -> list[Message]:
    """For each row of the chatbot, the message that it shows."""
    return [message for message in path for _ in rows_of_message(message, words)]


def plain(text: str) -> str:
    """A text on one line, harmless in Markdown."""
    return "".join(f"\\{char}" if char in r"\`*_{}[]()#+-.!|<>&~$" else char for char in " ".join(text.split()))


def as_json(value: object) -> str:
    """A value for people."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def _folded(content: str, title: str, log: str, *, done: bool) -> Row:
    metadata = {"title": title, "log": log, "status": "done" if done else "pending"}
    return {"role": "assistant", "content": content, "metadata": metadata}


def _cost(message: Message, words: Words) -> str:
    """`12.3 s · 240 tokens` of thought."""
    facts = message.facts
    parts = [words["seconds"].format(facts.thought_seconds)] if facts.thought_seconds else []
    return " · ".join(parts + ([tokens(facts.thought_tokens, words)] if facts.thought_tokens else []))


def tokens(number: int, words: Words) -> str:
    """`1 token`, `2 tokens`."""
    return words["token"] if number == 1 else words["tokens"].format(number)
