"""One answer: its events to the screen, Ctrl-C to the conversation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nemotron_gguf.runner import Conversation
from nemotron_gguf.runner.events import Done
from nemotron_gguf.ui.terminal.calling import Caller
from nemotron_gguf.ui.terminal.keys import Ticker
from nemotron_gguf.ui.terminal.screen import Drawn, Screen, open_screen


def answer(conversation: Conversation, message: str, caller: Caller | None = None) -> Done:
    """Say something and show the answer as it comes; Ctrl-C stops it. Raises NemotronError where it fails."""
    conversation.add_user(message)

    def show() -> Done:
        screen = open_screen(calls_aside=caller is not None)
        return follow(conversation, screen, Ticker(screen.tick))

    return caller.follow(conversation, show(), show) if caller else show()


def listening(conversation: Conversation, screen: Screen) -> Ticker:
    """A ticker that hears Ctrl-T, for a session at the keyboard."""
    resumed = screen.resume if isinstance(screen, Drawn) else lambda: None
    return Ticker(screen.tick, conversation.stop_thinking, resumed)


def follow(conversation: Conversation, screen: Screen, ticker: Ticker, top_logprobs: int | None = None) -> Done:
    """Show the answer to what was said last. Raises NemotronError where it fails."""
    try:
        with stoppable(conversation), ticker.running():
            for event in conversation.reply(top_logprobs=top_logprobs):
                screen.take(event)
                if isinstance(event, Done):
                    return event
    finally:
        screen.close()
    raise AssertionError("a reply ends with Done")


@contextmanager
def stoppable(conversation: Conversation) -> Iterator[None]:
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
