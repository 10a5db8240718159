"""An answer's text, taken apart as it comes: what the model thinks, what it says, and which tools it calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THINK, END_THINK = "<think>", "</think>"
MARKERS = (THINK, END_THINK, "<tool_call>", "</tool_call>")
"""Texts that must be seen in the stream, even where they are control tokens."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for: the tool's name and its arguments by name."""

    name: str
    arguments: Mapping[str, Any]


class Splitter:
    """Takes pieces of text, cut anywhere, and gives pieces of reasoning and of the answer.

    White space at the beginning and the end of either part is left out, as templates leave it out.
    """

    def __init__(self, prompt: str = "") -> None:
        """`prompt`: what the model goes on from; it may end inside an opened reasoning, or behind a closed one."""
        ending = prompt.rstrip()
        self.thinking = ending.endswith(THINK)
        self.may_begin = not self.thinking and not ending.endswith(END_THINK)
        self.held = ""
        self.empty = True  # nothing but white space so far in this part

    def feed(self, text: str) -> Iterator[Reasoning | Answer]:
        """The parts that a piece of text completes."""
        self.held += text
        if self.may_begin and not self._begin():
            return
        if self.thinking:
            thought, marker, rest = self.held.partition(END_THINK)
            if marker:
                yield from self._emit(thought, len(thought.rstrip()))
                self.thinking, self.empty, self.held = False, True, rest
            else:
                yield from self._emit(thought, _safe(thought))
        if not self.thinking:
            yield from self._emit(self.held, len(self.held.rstrip()))

    def finish(self) -> Iterator[Reasoning | Answer]:
        """What was held back and turned out to be plain text."""
        self.may_begin = False
        yield from self._emit(self.held, len(self.held.rstrip()))
        self.held = ""

    def _begin(self) -> bool:
        """Whether it is decided how the text begins: with a reasoning of its own, or with the answer."""
        begun = self.held.lstrip()
        if begun.startswith(THINK):
            self.thinking, self.held = True, begun[len(THINK) :]
        elif THINK.startswith(begun):
            return False
        self.may_begin = False
        return True

    def _emit(self, text: str, end: int) -> Iterator[Reasoning | Answer]:
        """Give out `text[:end]` and hold the rest back."""
        piece, self.held = text[:end], text[end:]
        if self.empty:
            piece = piece.lstrip()
        if piece:
            self.empty = False
            yield Reasoning(piece) if self.thinking else Answer(piece)


def _safe(text: str) -> int:
    """How much of a reasoning is surely no beginning of its end, nor white space before it."""
    for length in range(min(len(END_THINK) - 1, len(text)), 0, -1):
        if END_THINK.startswith(text[-length:]):
            text = text[:-length]
            break
    return len(text.rstrip())


_CALL = re.compile(r"<tool_call>\s*<function=([^>\n]+)>(.*?)</function>\s*</tool_call>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def parse_tool_calls(answer: str, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[str, tuple[ToolCall, ...]]:
    """An answer without its tool calls, and the calls, in Nemotron's XML form.

    Values are texts; those whose type in the tool's schema is another are read as JSON where they are JSON.
    """
    calls = []
    for name, body in _CALL.findall(answer):
        types = _types(name.strip(), tools)
        values = {key.strip(): _value(text, types.get(key.strip())) for key, text in _PARAMETER.findall(body)}
        calls.append(ToolCall(name.strip(), values))
    return _CALL.sub("", answer).strip(), tuple(calls)


def _types(name: str, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, object]:
    """The type that a tool's schema gives each of its parameters."""
    for tool in tools:
        function = tool.get("function", tool)
        if function.get("name") == name:
            properties = (function.get("parameters") or {}).get("properties") or {}
            return {key: schema.get("type") for key, schema in properties.items() if isinstance(schema, Mapping)}
    return {}


def _value(text: str, kind: object) -> Any:
    if kind in (None, "string"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
