"""A tool call, read as it comes: its end is found without reading anything twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from nemotron_gguf.runner.chat.format import ChatFormat

Call: TypeAlias = tuple[str, Mapping[str, Any]]
"""The tool's name and its arguments: as they stand in XML, as JSON has them in JSON."""

_FUNCTION, _END_FUNCTION, _PARAMETER, _END_PARAMETER = "<function=", "</function>", "<parameter=", "</parameter>"
_SPACE, _NAME = 256, 256
"""The longest white space between two tags, and the longest name: what is longer is no call."""

_OPEN = re.compile(rf"\s{{0,{_SPACE}}}(?:<function=([^>\n]{{1,{_NAME}}})>|([\[{{]))")
_BETWEEN = re.compile(r"[\s0-9+\-.eE:,truefalsn]*")
"""What JSON has outside of strings and brackets."""
_STRING = re.compile(r'[^"\\]*')


class CallScanner:
    """Reads what follows `call_begin`, in pieces cut anywhere. The cost of a piece is linear in its own length.

    In XML a value ends where another parameter or the call's end follows: what only looks like an end is part of it.
    """

    def __init__(self, form: ChatFormat) -> None:
        self.state: Literal["open", "whole", "broken"] = "open"
        self.calls: list[Call] = []
        self.is_xml = True
        self.rest = ""  # what followed a whole call
        self._end = form.call_end
        end = re.escape(form.call_end)
        self._next = re.compile(
            rf"\s{{0,{_SPACE}}}(?:<parameter=([^>\n]{{1,{_NAME}}})>|</function>\s{{0,{_SPACE}}}{end})"
        )
        self._closing = re.compile(rf"\s{{0,{_SPACE}}}{end}")
        self._raw, self._buffer = [form.call_begin], ""
        self._step: Callable[[], bool] = self._opening
        self._name, self._key, self._parts, self._values = "", "", list[str](), dict[str, str]()
        self._json, self._depth, self._quoted = list[str](), 0, False

    def feed(self, text: str) -> None:
        """Read on; `state` then tells whether the call is whole, with `calls` and `rest`, or is none."""
        self._raw.append(text)
        self._buffer += text
        while self.state == "open" and self._step():
            pass
        if self.state == "whole":
            self.rest = self._buffer

    def raw(self) -> str:
        """All that was read, `call_begin` included, without `rest`."""
        text = "".join(self._raw)
        return text[: len(text) - len(self.rest)]

    def _break(self) -> bool:
        self.state = "broken"
        return False

    def _opening(self) -> bool:
        """Behind the mark: the function's tag, or the bracket with which JSON begins."""
        found = _OPEN.match(self._buffer)
        if not found:
            return self._wait() if self._may_go_on(_FUNCTION) else self._break()
        if found[2]:
            self.is_xml = False
            self._buffer, self._step = self._buffer[found.end() - 1 :], self._brackets
        else:
            self._name = found[1].strip()
            self._buffer, self._step = self._buffer[found.end() :], self._tags
            return True if self._name else self._break()
        return True

    def _tags(self) -> bool:
        """Between two values: another parameter, or the end of the call."""
        found = self._next.match(self._buffer)
        if not found and (self._may_go_on(_PARAMETER) or self._may_end()):
            return self._wait()
        key = found[1].strip() if found and found[1] else ""
        if not found or (found[1] and (not key or key == self._key or key in self._values)):
            if not self._key:
                return self._break()
            self._parts.append(_END_PARAMETER)  # it only looked like the end
            self._step = self._value
            return True
        self._buffer = self._buffer[found.end() :]
        if self._key:
            self._values[self._key] = _inner("".join(self._parts))
        self._key, self._parts, self._step = key, [], self._value
        if not key:
            self.calls, self.state = [(self._name, self._values)], "whole"
        return bool(key)

    def _value(self) -> bool:
        text, mark, rest = self._buffer.partition(_END_PARAMETER)
        if mark:
            self._parts.append(text)
            self._buffer, self._step = rest, self._tags
            return True
        kept = len(_END_PARAMETER) - 1  # of which the mark may already have begun
        self._parts.append(text[:-kept])
        self._buffer = text[-kept:]
        return False

    def _brackets(self) -> bool:
        """JSON up to the bracket that closes the first one."""
        at, text = 0, self._buffer
        while at < len(text):
            if self._quoted:
                found = _STRING.match(text, at)
                at = found.end() if found else at
                if text[at : at + 1] == "\\":
                    if at + 1 == len(text):
                        break  # what is escaped is still to come
                    at += 2
                    continue
                if at < len(text):
                    self._quoted = False
                    at += 1
                continue
            found = _BETWEEN.match(text, at)
            at = found.end() if found else at
            if at == len(text):
                break
            letter, at = text[at], at + 1
            if letter not in '"[]{}':
                return self._break()
            self._quoted = letter == '"'
            self._depth += (letter in "[{") - (letter in "]}")
            if not self._depth:
                self._json.append(text[:at])
                self._buffer, self._step = text[at:], self._close
                return True
        self._json.append(text[:at])
        self._buffer = text[at:]
        return False

    def _close(self) -> bool:
        found = self._closing.match(self._buffer)
        if not found:
            return self._wait() if self._may_go_on(self._end) else self._break()
        calls = _json_calls("".join(self._json))
        if not calls:
            return self._break()
        self._buffer = self._buffer[found.end() :]
        self.calls, self.state = calls, "whole"
        return False

    def _wait(self) -> bool:
        return False

    def _may_go_on(self, tag: str, text: str | None = None) -> bool:
        """Whether what is there may become white space and a tag: a part of it, or it with a part of a name."""
        held = self._buffer if text is None else text
        begun = held.lstrip()
        if len(held) - len(begun) > _SPACE:
            return False
        if not begun.startswith(tag):
            return tag.startswith(begun)
        name = begun[len(tag) :]
        return tag.endswith("=") and len(name) <= _NAME and ">" not in name and "\n" not in name

    def _may_end(self) -> bool:
        begun = self._buffer.lstrip()
        if not begun.startswith(_END_FUNCTION):
            return self._may_go_on(_END_FUNCTION)
        return self._may_go_on(self._end, begun[len(_END_FUNCTION) :])


def _inner(value: str) -> str:
    """A value without the line break that templates write on either side of it."""
    return value.removeprefix("\n").removesuffix("\n")


def _json_calls(text: str) -> list[Call]:
    """The calls of a JSON object or a list of them; none where one of them is no call.

    Arguments may be called "parameters", as Llama 3 has it, or be written as a text that holds JSON.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    calls: list[Call] = []
    for item in found if isinstance(found, list) else [found]:
        name = item.get("name") if isinstance(item, dict) else None
        arguments = item.get("arguments", item.get("parameters", {})) if isinstance(name, str) and name else None
        if isinstance(arguments, str):
            arguments = _object(arguments)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return []
        calls.append((name, arguments))
    return calls


def _object(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
