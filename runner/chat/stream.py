"""An answer's text, taken apart as it comes: what the model thinks, what it says, and which tools it calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from nemotron_gguf.runner.chat.calls import CallScanner
from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.chat.values import schemas_of, typed
from nemotron_gguf.runner.events import Answer, Reasoning, ToolCall

Part: TypeAlias = Reasoning | Answer | ToolCall
Mode: TypeAlias = Literal["start", "thinking", "answer"]

_SLICE = 4096
"""Characters looked at together: what follows a mark is copied, and must not be much."""

_RETRIES = 16
"""How often the end of the stream looks for a call inside of one that never ended; then all of it is text."""


class StreamParser:
    """Takes pieces of text, cut anywhere, and gives events: however a text is cut, they join to the same.

    White space at the beginning and the end of a reasoning or an answer is left out, as templates leave it out; all
    else is given out, and what is no whole call is text. A mark that begins a reasoning counts at the very beginning
    alone, one that ends it where one is open. A call inside an open reasoning ends it where calls are XML and the tool
    was offered, for Nemotron 3 forgets to close it (llama.cpp: common/parsers/qwen3-coder.cpp); any other stays
    reasoning. The cost of a piece is linear in its own length.
    """

    def __init__(self, form: ChatFormat, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """`tools`: those offered to the model, in the form of OpenAI's API; their schemas type XML's values."""
        self.form, self._schemas = form, schemas_of(tools)
        marks = (form.begin, form.end, form.call_begin, form.call_end)
        self.markers: tuple[str, ...] = tuple(mark for mark in marks if mark)
        self._scanner: CallScanner | None = None
        self._space: list[str] = []  # white space that waits for what follows it
        if form.thinking:
            self._enter("thinking")
        else:
            self._enter("start" if form.may_open and form.begin else "answer")
        self._empty = not form.begun

    @property
    def thinking(self) -> bool:
        """Whether the next text belongs to a reasoning."""
        return self._mode == "thinking"

    def feed(self, text: str) -> list[Part]:
        """The events that a piece of text completes."""
        events: list[Part] = []
        self._take(text, events)
        return events

    def end_thinking(self) -> list[Part]:
        """The engine has written `form.close` in the model's place: the rest of the reasoning; the answer follows.

        Its bridge becomes part of the reasoning, so that the next turn's prompt repeats what the model has read.
        """
        events: list[Part] = []
        if self._mode == "thinking":
            self._emit(self._held(), events)
            if not self._empty:
                self._emit(self.form.bridge, events)
            self._enter("answer")
        return events

    def finish(self) -> list[Part]:
        """The end of the stream: what was held back is text."""
        events: list[Part] = []
        for _ in range(_RETRIES):
            if self._scanner:
                self._take(self._give_up(self._scanner, events), events)
        held = self._held()
        if self._mode == "start":
            self._enter("answer")
        self._emit(held, events)
        self._scanner, self._tail, self._space = None, "", []
        return events

    def _enter(self, mode: Mode) -> None:
        self._mode: Mode = mode
        self._empty = True  # nothing but white space so far in this part
        self._space = []
        self._tail = ""  # text that may become a mark
        self._scanner = None
        marks = [self.form.end] if mode == "thinking" else []
        if self.form.tools != "none" and (mode == "answer" or (self.form.tools == "xml" and self._schemas)):
            marks.append(self.form.call_begin)
        self._marks = tuple(filter(None, marks))
        self._firsts = {mark[0] for mark in self._marks}
        self._longest = max(map(len, self._marks), default=1)

    def _held(self) -> str:
        return (self._scanner.raw() if self._scanner else "") + self._tail

    def _take(self, text: str, events: list[Part]) -> None:
        waiting = [text[at : at + _SLICE] for at in range(0, len(text), _SLICE)]
        waiting.reverse()
        while waiting:
            text = waiting.pop()
            rest = self._scan(self._scanner, text, events) if self._scanner else self._split(text, events)
            if len(rest) > _SLICE:
                waiting += reversed([rest[at : at + _SLICE] for at in range(0, len(rest), _SLICE)])
            elif rest:
                waiting.append(rest)

    def _split(self, text: str, events: list[Part]) -> str:
        """Give out what comes before the next mark; what follows the mark."""
        if self._mode == "start":
            return self._begin(text)
        if self._tail:
            text, self._tail = self._tail + text, ""
        at, mark = len(text), ""
        for candidate in self._marks:
            found = text.find(candidate)
            if 0 <= found < at:
                at, mark = found, candidate
        if not mark:
            at = self._safe(text)
            self._tail = text[at:]
            self._emit(text[:at], events)
            return ""
        self._emit(text[:at], events)
        if mark == self.form.call_begin:
            self._scanner = CallScanner(self.form)
        else:
            self._enter("answer")
        return text[at + len(mark) :]

    def _begin(self, text: str) -> str:
        """Decide how the text begins: with a reasoning of its own, or with the answer."""
        begun, mark = (self._tail + text).lstrip(), self.form.begin
        if begun.startswith(mark):
            self._enter("thinking")
            return begun[len(mark) :]
        if mark.startswith(begun):
            self._tail = begun
            return ""
        self._enter("answer")
        return begun

    def _safe(self, text: str) -> int:
        """How much of a text is surely not the beginning of a mark."""
        start = max(len(text) - self._longest + 1, 0)
        if self._firsts.isdisjoint(text[start:]):
            return len(text)
        for at in range(start, len(text)):
            if text[at] in self._firsts and any(mark.startswith(text[at:]) for mark in self._marks):
                return at
        return len(text)

    def _scan(self, scanner: CallScanner, text: str, events: list[Part]) -> str:
        """Read a call on; what is to be read again, or what follows it."""
        closed = ""
        if self.thinking:  # it may end before the call does
            text = self._tail + text
            before, closed, after = text.partition(self.form.end)
            at = len(before) if closed else self._safe(text)
            text, self._tail = text[:at], "" if closed else text[at:]
        scanner.feed(text)
        if scanner.state == "whole":
            rest = self._call(scanner, events)
        elif scanner.state == "broken":
            rest = self._give_up(scanner, events)
        elif closed:
            self._scanner, rest = None, ""
            self._emit(scanner.raw(), events)
        else:
            return ""
        return rest + closed + after if closed else rest

    def _call(self, scanner: CallScanner, events: list[Part]) -> str:
        """Give out a whole call, or as reasoning where it names no tool that was offered; what follows it."""
        rest = scanner.rest + self._tail
        self._scanner, self._tail = None, ""
        if self.thinking:
            if not all(name in self._schemas for name, _ in scanner.calls):
                self._emit(scanner.raw(), events)
                return rest
            self._enter("answer")
        for name, values in scanner.calls:
            if scanner.is_xml:
                schemas = self._schemas.get(name, {})
                values = {key: typed(text, schemas.get(key)) for key, text in values.items()}
            events.append(ToolCall(name, values))
        return rest

    def _give_up(self, scanner: CallScanner, events: list[Part]) -> str:
        """It is no call: its mark is text; what followed is to be read again."""
        rest = scanner.raw()[len(self.form.call_begin) :] + self._tail
        self._scanner, self._tail = None, ""
        self._emit(self.form.call_begin, events)
        return rest

    def _emit(self, text: str, events: list[Part]) -> None:
        """Give out a text, but for the white space at its end, which waits."""
        if self._empty:
            text = text.lstrip()
        body = text.rstrip()
        if body:
            piece = "".join([*self._space, body]) if self._space else body
            self._empty, self._space = False, []
            events.append(Reasoning(piece) if self.thinking else Answer(piece))
        if len(body) < len(text):
            self._space.append(text[len(body) :])


MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>")


class PlainText:
    """What stands in for a parser where a text is to stay as it is."""

    thinking, markers = False, ()

    def feed(self, text: str) -> list[Part]:
        """All of it."""
        return [Answer(text)]

    def finish(self) -> list[Part]:
        """Nothing was held back."""
        return []
