"""Where a person types: an editor of several lines in a terminal that can, a plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from nemotron_gguf.ui.terminal.safe import safe, whole
from nemotron_gguf.ui.terminal.screen import is_terminal

QUOTES = '"""'


class Prompt(Protocol):
    """Asks for a message."""

    takes_drafts: bool
    """Whether a line can begin with something in it."""

    def ask(self, label: str = "", draft: str = "") -> str:
        """What was typed. `label` stands before the mark, `draft` in the line already.

        Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C.
        """


def open_prompt(completions: Callable[[str], Sequence[tuple[str, int, str]]]) -> Prompt:
    """The editor, or plain lines. `completions`: for the text before the cursor, words, where each begins (counted
    backwards from the cursor) and what it means."""
    if sys.stdin.isatty() and is_terminal():
        with contextlib.suppress(ImportError):
            from nemotron_gguf.ui.terminal.editor import Editor

            return Editor(completions)
    return Lines()


def is_open(text: str) -> bool:
    """Whether a message goes on in the next line: after a backslash, or within three quotes."""
    if text.lstrip().startswith(QUOTES):
        return text.count(QUOTES) < 2
    return text.endswith("\\") and not text.endswith("\\\\")


def joined(text: str) -> str:
    """A message as it is meant: without the marks that held its lines together."""
    text = whole(text)
    bare = text.strip()
    if bare.startswith(QUOTES):
        return bare.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")
    return text.replace("\\\n", "\n").strip()


class Lines:
    """Plain lines, for terminals that can do no more."""

    takes_drafts = False

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):  # line editing, where the system has it
            import readline  # noqa: F401

    def ask(self, label: str = "", draft: str = "") -> str:
        """A message, over several lines while it is open."""
        if draft:
            print(f"{safe(draft)}\n(type it anew)", file=sys.stderr)
        text = self._line(f"\n{label}> ")
        while is_open(text):
            text += "\n" + self._line(". ")
        return text

    def _line(self, mark: str) -> str:
        if sys.stdout.isatty():
            return input(mark)
        print(mark, end="", file=sys.stderr, flush=True)
        return input()
