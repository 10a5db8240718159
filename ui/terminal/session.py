"""A conversation at the keyboard: turns of typing and answering."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner import ChatModel, Conversation, Done, RunnerError
from nemotron_gguf.ui import console
from nemotron_gguf.ui.attachments import Attachment, compose
from nemotron_gguf.ui.terminal.ahead import typed_ahead
from nemotron_gguf.ui.terminal.calling import Caller
from nemotron_gguf.ui.terminal.commands import find, is_command, nearest
from nemotron_gguf.ui.terminal.completion import completions
from nemotron_gguf.ui.terminal.keys import Ticker
from nemotron_gguf.ui.terminal.markdown import markdown_rows
from nemotron_gguf.ui.terminal.prompt import joined, open_prompt
from nemotron_gguf.ui.terminal.safe import safe
from nemotron_gguf.ui.terminal.screen import open_screen
from nemotron_gguf.ui.terminal.turn import follow, listening
from nemotron_gguf.ui.terminal.words import Totals
from nemotron_gguf.ui.terminal.wrap import rows_of

if TYPE_CHECKING:
    from nemotron_gguf.ui.tools import ToolBox


class Session:
    """What the commands work on: the model, the conversation, what goes with the next message."""

    def __init__(self, model: ChatModel, talk: Conversation, box: ToolBox | None = None) -> None:
        self.model, self.talk = model, talk
        self.files: list[Attachment] = []
        self.totals = Totals()
        self.fold = True
        self.draft = ""  # what stands in the input line already
        self.ahead: list[str] = []  # messages that were sent while an answer came
        self.interrupted = False  # Ctrl-C was the last thing that was pressed
        self.prompt = open_prompt(completions)
        self._caller = Caller(box, lambda question: self.ask(question, "")) if box else None

    def run(self) -> None:
        """Until the person leaves."""
        self.note("Type a message. /help lists commands, Ctrl-D leaves.")
        with contextlib.suppress(EOFError):
            while True:
                self._turn()

    def _turn(self) -> None:
        label = f"[{len(self.files)} attached] " if self.files else ""
        try:
            line = joined(self._next(label))
        except KeyboardInterrupt:
            if self.interrupted:
                raise EOFError from None
            self.interrupted = True
            self.note("Ctrl-C again leaves.")
            return
        self.interrupted = False
        try:
            if is_command(line):
                self._command(line)
            elif line:
                self._message(line)
        except NemotronError as error:
            self.show(str(error), "red")

    def _next(self, label: str) -> str:
        """What was sent already, or what is typed now."""
        if self.ahead:
            line = self.ahead.pop(0)
            self._print([Text(), *rows_of(f"{label}> {safe(line)}", self._width)])
            return line
        draft, self.draft = self.draft, ""
        return self.prompt.ask(label, draft)

    def _hold_back(self, *lines: str) -> None:
        """What was to be sent stands in the input line instead: something went otherwise than was thought."""
        self.draft = "\n".join(filter(None, (*lines, *self.ahead, self.draft)))
        self.ahead.clear()

    def _command(self, line: str) -> None:
        name, _, words = line.partition(" ")
        command = find(name)
        if command is None:
            near = nearest(name)
            raise RunnerError(f"{name} is no command; " + (f"did you mean {near}?" if near else "/help lists them"))
        command.run(self, words.strip())

    def _message(self, line: str) -> None:
        files, self.files = self.files, []
        if not self.say(compose(line, files), list(self.talk.messages)):
            self.files = files
            self._hold_back(line)

    def say(self, text: str, before: list[dict[str, Any]]) -> bool:
        """Say something and show the answer; where nothing came of it, the messages are those of `before` again.

        Raises KeyboardInterrupt where Ctrl-C was pressed twice.
        """
        self.talk.add_user(text)
        done = None
        try:
            done = self._answer()
            if self._caller:
                done = self._caller.follow(self.talk, done, self._answer)
        except NemotronError as error:
            done = None
            self.show(str(error), "red")
        finally:
            if not done or self.interrupted:
                self._hold_back()
        if self.talk.messages[-1]["role"] == "user":
            self.talk.messages[:] = before
            return False
        return True

    def _answer(self) -> Done:
        """Show an answer as it comes; what is typed meanwhile is kept. Raises NemotronError where it fails."""
        screen = open_screen(fold=self.fold, calls_aside=self._caller is not None)
        ticker = listening(self.talk, screen) if self.prompt.takes_drafts else Ticker(screen.tick)
        try:
            done = follow(self.talk, screen, ticker)
        finally:
            sent, self.draft = typed_ahead(ticker.typed, self.draft)
            self.ahead += sent
        self.totals.add(done)
        self.interrupted = done.finish_reason == "cancelled"
        return done

    def ask(self, label: str, draft: str) -> str:
        """A line for a command, empty where the person thought better of it."""
        try:
            return joined(self.prompt.ask(f"{label} ", draft))
        except (KeyboardInterrupt, EOFError):
            return ""

    def note(self, text: str) -> None:
        """One dim line."""
        self.show(text, "dim")

    def show(self, text: str, style: str = "") -> None:
        """What a command was asked for."""
        self._print(rows_of(text, self._width, style))

    def show_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and what they mean, beside each other or, in a narrow terminal, below."""
        beside = max(len(name) for name, _ in pairs) + 2 if self._width >= 60 else 0
        for name, meaning in pairs:
            rows = list(rows_of(meaning, self._width - (beside or 2)))
            if not beside:
                self._print([Text(name, style="bold")])
            for index, row in enumerate(rows):
                first = name if beside and index == 0 else ""
                self._print([Text.assemble((first.ljust(beside or 2), "bold"), row)])

    def show_last(self) -> None:
        """The last message and its answer, as they stood."""
        for message in self.talk.messages[-2:]:
            text = safe(str(message["content"]))
            if message["role"] == "user":
                self._print([Text(), *rows_of(f"> {text}", self._width, "bold"), Text()])
            else:
                self._print(markdown_rows(text, self._width))

    @property
    def _width(self) -> int:
        return max(console.stderr().width - 1, 10)

    def _print(self, rows: Iterable[Text]) -> None:
        screen = console.stderr()
        for row in rows:
            screen.print(row)

    def switch_note(self) -> str:
        """A word where the model's template has no switch for thinking."""
        return "" if self.model.template.has_switch else " (this model's template has no such switch)"
