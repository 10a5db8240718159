"""Messages of a conversation: as they are kept, and as one or another template wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.events import ToolCall

Message: TypeAlias = Mapping[str, Any]
"""A turn as chat templates know it: role, content, and perhaps reasoning_content or tool_calls."""

Tool: TypeAlias = Mapping[str, Any]
"""A tool in the form of OpenAI's API: {"type": "function", "function": {"name", "description", "parameters"}}."""

_MAX_DEPTH = 64


def as_message(reasoning: str, answer: str, calls: Sequence[ToolCall] = ()) -> dict[str, Any]:
    """An answer as the next prompt's templates read it."""
    message: dict[str, Any] = {"role": "assistant", "content": answer}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}} for call in calls
        ]
    return message


def drop_oldest(messages: Sequence[Message]) -> list[Message] | None:
    """The messages without their oldest turn: a user's message and all up to the next one.

    System messages at the beginning stay. None where but one turn is left.
    """
    begin = next((at for at, message in enumerate(messages) if not _is_system(message)), len(messages))
    users = [at for at in range(begin, len(messages)) if messages[at].get("role") == "user"]
    if len(users) < 2:
        return None
    return [*messages[:begin], *messages[users[1] :]]


def _is_system(message: Message) -> bool:
    return message.get("role") in ("system", "developer")


def clean(text: str) -> str:
    """A text that can be sent: what is no Unicode character becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(value: object, what: str, depth: int = 0) -> Any:
    """A copy made of lists, dictionaries, texts and numbers alone: what a template may hold.

    Raises RunnerError, naming `what` it is, for anything else.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {str(key): plain(item, what, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item, what, depth + 1) for item in value]
    found = "a list too deep" if depth >= _MAX_DEPTH else f"a {type(value).__name__}"
    raise RunnerError(f"{what} hold {found}; expected texts, numbers, lists and mappings, {_MAX_DEPTH} deep at most")


def normalized(messages: Sequence[Message], *, mappings: bool, parts: bool, developer: bool) -> list[dict[str, Any]]:
    """Messages in one form, whatever API they were written for.

    `mappings`: arguments of calls as mappings, else as JSON texts. `parts`: contents as lists of parts, else as texts.
    `developer`: the template knows that role. Raises RunnerError for messages that are none.
    """
    found = [plain(message, "the messages") for message in messages]
    for message in found:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RunnerError("a message has no role; expected system, user, assistant or tool")
        if message["role"] == "developer" and not developer:
            message["role"] = "system"
        _check_content(message)
        if "content" in message:
            message["content"] = _content(message["content"], parts)
        if "reasoning_content" not in message and isinstance(message.get("reasoning"), str):
            message["reasoning_content"] = message["reasoning"]
        for call in message.get("tool_calls") or ():
            _set_arguments(call, mappings)
    return found


def _check_content(message: dict[str, Any]) -> None:
    """Raises RunnerError for a message that says nothing, but for an assistant's that has reasoning or calls."""
    content, role = message.get("content"), message["role"]
    if isinstance(content, str | list):
        return
    if content is None and any(message.get(key) for key in ("tool_calls", "reasoning_content", "reasoning")):
        return
    found = "no content" if content is None else f"a content of type {type(content).__name__}"
    raise RunnerError(f"a message of the role {role[:40]!r} has {found}; expected a text, or a list of parts")


def _content(content: Any, parts: bool) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if parts else content
    if not isinstance(content, list) or parts:
        return content
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise RunnerError(f"a message holds a part of type {kind!r}, and only text can be read")
        texts.append(text)
    return "".join(texts)


def _set_arguments(call: Any, mappings: bool) -> None:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RunnerError("a tool call has no name; expected {'type': 'function', 'function': {'name', 'arguments'}}")
    if "function" in call:
        call.setdefault("type", "function")
    arguments = function.get("arguments")
    if not mappings and isinstance(arguments, dict):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    elif mappings and isinstance(arguments, str):
        function["arguments"] = _mapping(arguments, function["name"])


def _mapping(arguments: str, name: str) -> dict[str, Any]:
    try:
        found = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RunnerError(f"the arguments of a call of {name!r} are no JSON object: {arguments[:80]!r}")
    return found


def switched(messages: list[dict[str, Any]], role: str, wanted: str, other: str) -> None:
    """Write the words that switch thinking into the messages: the last of the user's, or the system's."""
    if role == "system" and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": ""})
    at = [at for at, message in enumerate(messages) if message["role"] == role]
    if not at:
        return
    message = messages[0 if role == "system" else at[-1]]
    content = message.get("content") or ""
    if isinstance(content, list):
        message["content"] = [*content, {"type": "text", "text": "\n" + wanted}]
    elif wanted not in content:
        rest = content.replace(other, "").strip() if other else content
        first, second = (wanted, rest) if role == "system" else (rest, wanted)
        message["content"] = f"{first}{_GAPS[role]}{second}" if rest else wanted


_GAPS = {"system": "\n\n", "user": " "}
