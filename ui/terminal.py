"""`nemotron chat`: a conversation in the terminal. Answers go to stdout; reasoning and words about it to stderr."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner import Answer, Conversation, Done, Reasoning, RunnerError, Settings, open_model
from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from rich.console import Console

HELP = """/thinking on|off   think before answering, or answer at once
/clear             begin a new conversation
/help              this list
/exit              leave, as Ctrl-D does
Ctrl-C stops an answer; pressed again, it leaves."""

INTERRUPTED = 130  # exit status of a program ended by Ctrl-C, as shells count it

_CONTROLS = dict.fromkeys(set(range(32)) - {ord("\n"), ord("\t")} | set(range(127, 160)))


def chat(
    path: str | Path,
    settings: Settings | None = None,
    *,
    message: str | None = None,
    system: str | None = None,
    thinking: bool = True,
    verbose: bool = False,
) -> None:
    """Talk with a model until the person leaves; with `message`, or one from a pipe, give one answer and return.

    Raises NemotronError where the model cannot be loaded or the one answer fails, SystemExit(130) where it was stopped.
    """
    _prepare_streams()
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if message is not None and not message.strip():
        raise RunnerError("there is no message to answer; give one with --message, in a pipe, or type it in a terminal")
    console.note(f"loading {path} …")
    with open_model(path, settings, verbose=verbose) as model:
        console.note(model.describe())
        conversation = model.conversation(system=system, thinking=thinking)
        if message is None:
            _Session(conversation).run()
        elif answer(conversation, message).finish_reason == "cancelled":
            raise SystemExit(INTERRUPTED)


def answer(conversation: Conversation, message: str) -> Done:
    """Say something and show the answer as it comes; Ctrl-C stops it. Raises NemotronError where it fails."""
    conversation.add_user(message)
    screen = _Screen()
    with _stoppable(conversation):
        for event in conversation.reply():
            if isinstance(event, Reasoning):
                screen.think(event.text)
            elif isinstance(event, Answer):
                screen.say(event.text)
            elif isinstance(event, Done):
                screen.end(event)
                return event
    raise AssertionError("a reply ends with Done")


@dataclass
class _Screen:
    """Where the parts of an answer go, and the line breaks between them."""

    words: Console = field(default_factory=console.stderr)
    thinking: bool = False
    said: bool = False

    def think(self, text: str) -> None:
        self.thinking = True
        self._dim(text)

    def say(self, text: str) -> None:
        if self.thinking:
            self._dim("\n\n")
            self.thinking = False
        self.said = True
        print(text.translate(_CONTROLS), end="", flush=True)

    def end(self, done: Done) -> None:
        if self.said:
            print(flush=True)
        elif self.thinking:
            self._dim("\n")
        why = {"length": " · cut short: the limit of tokens was reached", "cancelled": " · stopped"}.get(
            done.finish_reason, ""
        )
        thought = f", {done.usage.reasoning_tokens} of them thought" if done.usage.reasoning_tokens else ""
        speed = f"{done.timings.generated_per_second:.1f} tokens/s"
        console.note(f"{done.usage.completion_tokens} tokens{thought} · {speed}{why}")

    def _dim(self, text: str) -> None:
        self.words.print(text.translate(_CONTROLS), style="dim", end="", markup=False, emoji=False)


@contextmanager
def _stoppable(conversation: Conversation) -> Iterator[None]:
    """Ctrl-C stops the answer, not the program; a second one is the usual KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    previous = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of signal handlers
        signal.signal(signal.SIGINT, previous)
        conversation.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class _Session:
    """Turns of typing and answering."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.interrupted = False  # Ctrl-C was the last thing that was pressed

    def run(self) -> None:
        with contextlib.suppress(ImportError):  # line editing, where the system has it
            import readline  # noqa: F401
        console.note("Type a message. /help lists commands, Ctrl-D leaves.")
        while (line := self._read()) is not None:
            self._handle(line.strip())

    def _read(self) -> str | None:
        """A line, None to leave."""
        try:
            if sys.stdout.isatty():
                return input("\n> ")
            print("\n> ", end="", file=sys.stderr, flush=True)
            return input()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if self.interrupted:
                return None
            self.interrupted = True
            print(file=sys.stderr)
            console.note("Ctrl-C again leaves.")
            return ""

    def _handle(self, line: str) -> None:
        if not line:
            return
        self.interrupted = False
        if line.startswith("/"):
            self._command(line)
            return
        try:
            self.interrupted = answer(self.conversation, line).finish_reason == "cancelled"
        except NemotronError as error:
            self.conversation.undo()
            console.error(str(error))

    def _command(self, line: str) -> None:
        name, _, word = line.partition(" ")
        if name in ("/exit", "/quit"):
            raise SystemExit(0)
        if name == "/clear":
            self.conversation.clear()
            console.note("a new conversation begins")
        elif name == "/thinking" and word.strip() in ("on", "off"):
            self.conversation.thinking = word.strip() == "on"
            known = "" if self.conversation.template.has_switch else " (this model's template has no such switch)"
            console.note(f"thinking is {word.strip()}{known}")
        else:
            if name != "/help":
                console.error(f"{line!r} is no command; these are:")
            print(HELP, file=sys.stderr)


def _prepare_streams() -> None:
    """What a terminal cannot show becomes a question mark instead of an error."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
