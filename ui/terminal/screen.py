"""An answer on the screen as it comes: drawn in a terminal, plain bytes elsewhere."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from rich.text import Text

from nemotron_gguf.runner.events import Answer, AnyEvent, Done, PromptProgress, Reasoning, ToolCall
from nemotron_gguf.ui import console
from nemotron_gguf.ui.terminal.growing import Growing
from nemotron_gguf.ui.terminal.region import Region
from nemotron_gguf.ui.terminal.safe import safe
from nemotron_gguf.ui.terminal.words import Reading, seconds, summary
from nemotron_gguf.ui.terminal.wrap import rows_of

if TYPE_CHECKING:
    from rich.console import Console

PATIENCE = 0.4  # seconds until a word is said about waiting
THOUGHTS_SHOWN = 6  # rows


class Screen(Protocol):
    """Where the events of an answer go."""

    def take(self, event: AnyEvent) -> None:
        """Note an event; the last is Done."""

    def tick(self) -> None:
        """Draw what was noted."""

    def close(self) -> None:
        """Leave the terminal as a prompt may follow, however the answer ended."""


def is_terminal() -> bool:
    """Whether answers and words go to one terminal that can draw."""
    able = os.environ.get("TERM", "xterm") not in ("", "dumb", "unknown")
    return able and sys.stdout.isatty() and sys.stderr.isatty()


def open_screen(*, fold: bool = False, calls_aside: bool = False) -> Screen:
    """The screen that fits where the output goes; `fold` where a reasoning is to be folded once it is over.

    `calls_aside`: in a pipe, calls of tools go to stderr, because an answer to their results follows.
    """
    from rich.console import Console

    shown = Console(highlight=False, soft_wrap=True)
    if is_terminal() and not shown.legacy_windows:
        return Drawn(shown, fold)
    return Plain(calls_aside=calls_aside)


def call_line(call: ToolCall) -> str:
    """A call of a tool on one line."""
    arguments = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in call.arguments.items())
    return safe(f"→ {call.name}({arguments})").replace("\n", " ")


class Drawn:
    """In a terminal: finished blocks are printed for good, what is growing is drawn below them.

    `take` and `tick` may come from two threads.
    """

    def __init__(self, shown: Console, fold: bool) -> None:
        self.region, self.fold = Region(shown), fold
        self.lock = threading.RLock()
        self.since = monotonic()
        self.reading = Reading()
        self.status = ""
        self.thoughts: _Thoughts | None = None
        self.words: Growing | None = None
        self.ready: list[Text] = []  # rows to be printed for good
        self.spaced = True  # there is an empty row, or nothing yet

    def take(self, event: AnyEvent) -> None:
        """Note an event."""
        with self.lock:
            if isinstance(event, PromptProgress):
                self.status = self.reading.line(event) if event.done < event.total else ""
            elif isinstance(event, Reasoning):
                self._end_words()
                self.thoughts = self.thoughts or _Thoughts(self.fold)
                self.thoughts.add(event.text)
            elif isinstance(event, Answer):
                self._end_thoughts()
                self.words = self.words or Growing()
                self.words.feed(event.text)
            elif isinstance(event, ToolCall):
                self._end_thoughts()
                self._end_words()
                self.ready.append(Text(call_line(event), style="cyan"))
                self.spaced = False
            elif isinstance(event, Done):
                self._end_thoughts()
                self._end_words()
                self.ready += [*([] if self.spaced else [Text()]), *rows_of(summary(event), self.region.size[0], "dim")]

    def tick(self) -> None:
        """Draw."""
        with self.lock:
            width, height = self.region.size
            above, rows = self.ready, []
            self.ready = []
            if self.thoughts:
                above += self.thoughts.settle(width)
                rows = list(self.thoughts.rows(width, height))
            elif self.words:
                above += self.words.settle(width, height)
                rows = self.words.pending(width)
            elif monotonic() - self.since > PATIENCE:
                rows = list(rows_of(self.status or f"waiting {monotonic() - self.since:.0f} s", width, "dim"))
            self.region.show(rows, above)

    def close(self) -> None:
        """Print what is still growing, and leave."""
        with self.lock:
            self._end_thoughts()
            self._end_words()
            self.region.show([], self.ready)
            self.ready = []

    def resume(self) -> None:
        """Go on below what others wrote."""
        with self.lock:
            self.region.forget()

    def _end_thoughts(self) -> None:
        if self.thoughts:
            self.ready += [*self.thoughts.end(self.region.size[0]), Text()]
            self.thoughts, self.spaced = None, True
        self.since = monotonic()

    def _end_words(self) -> None:
        if self.words:
            self.ready += self.words.finish(self.region.size[0])
            self.words, self.spaced = None, False


class _Thoughts:
    """A reasoning under way: its last rows and a clock, or all of it where it is not folded."""

    def __init__(self, fold: bool) -> None:
        self.fold, self.started = fold, monotonic()
        self.text, self.pieces = "", 0

    def add(self, text: str) -> None:
        self.text += safe(text)
        self.pieces += 1

    def settle(self, width: int) -> Iterator[Text]:
        """Lines that are finished, where nothing is folded."""
        if not self.fold:
            lines, end, self.text = self.text.rpartition("\n")
            if end:
                yield from rows_of(lines, width, "dim italic")

    def rows(self, width: int, height: int) -> Iterator[Text]:
        if self.fold:
            shown = min(THOUGHTS_SHOWN, height - 2)
            tail = self.text[-shown * width :].strip("\n")
            yield from list(rows_of(tail, width, "dim italic"))[-shown:]
            yield from rows_of(f"thinking {self._took()} · Ctrl-T answers now", width, "dim")
        elif self.text:
            yield from rows_of(self.text, width, "dim italic")

    def end(self, width: int) -> Iterator[Text]:
        if self.fold:
            yield from rows_of(f"thought {self._took()} · /thoughts shows it", width, "dim")
        elif self.text:
            yield from rows_of(self.text, width, "dim italic")

    def _took(self) -> str:
        """Each piece is about a token; the exact number comes with the end of the answer."""
        return f"{seconds(monotonic() - self.started)}, ~{self.pieces} tokens"


@dataclass
class Plain:
    """In a pipe or a file: the answer's bytes to stdout as they come; reasoning and words to stderr."""

    words: Console = field(default_factory=console.stderr)
    thinking: bool = False
    said: bool = False
    reading: Reading = field(default_factory=Reading)
    status: Region | None = None
    calls_aside: bool = False

    def take(self, event: AnyEvent) -> None:
        """Show an event."""
        if isinstance(event, PromptProgress):
            self._progress(event)
            return
        self._end_progress()
        if isinstance(event, Reasoning):
            self.thinking = True
            self._dim(safe(event.text))
        elif isinstance(event, Answer):
            self._say(event.text)
        elif isinstance(event, ToolCall) and self.calls_aside:
            self.close()
            console.note(call_line(event))
        elif isinstance(event, ToolCall):
            self._say(f"\n{call_line(event)}\n" if self.said else f"{call_line(event)}\n")
        elif isinstance(event, Done):
            self.close()
            console.note(summary(event))

    def tick(self) -> None:
        """Everything is shown at once."""

    def close(self) -> None:
        """End the line that was begun."""
        self._end_progress()
        if self.said:
            print(flush=True)
        elif self.thinking:
            self._dim("\n")
        self.said = self.thinking = False

    def _say(self, text: str) -> None:
        if self.thinking:
            self._dim("\n\n")
            self.thinking = False
        self.said = True
        print(safe(text), end="", flush=True)

    def _dim(self, text: str) -> None:
        self.words.print(text, style="dim", end="", markup=False, emoji=False)

    def _progress(self, event: PromptProgress) -> None:
        if self.words.is_terminal and not self.words.is_dumb_terminal:
            line = self.reading.line(event)
            self.status = self.status or Region(self.words)
            if monotonic() - self.reading.started > PATIENCE:
                self.status.show([Text(line, style="dim")])

    def _end_progress(self) -> None:
        if self.status:
            self.status.show([])
            self.status = None
