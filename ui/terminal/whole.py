"""Whole answers as objects, for programs: one that comes, or several to the same message."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from nemotron_gguf.runner.events import Answer, AnyEvent, Done, Drawn, PromptProgress, Reasoning, ToolCall
from nemotron_gguf.ui.terminal.form import Form
from nemotron_gguf.ui.terminal.screen import Plain

if TYPE_CHECKING:
    from nemotron_gguf.runner import Conversation


class Whole(Plain):
    """Shows nothing but how far a long prompt is read; keeps the rest for one object at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[AnyEvent] = []

    def take(self, event: AnyEvent) -> None:
        """Keep an event."""
        if isinstance(event, PromptProgress):
            super().take(event)
        else:
            self.close()
            self.events.append(event)

    def described(self, done: Done) -> dict[str, Any]:
        """The whole answer, for a program."""
        calls = [event for event in self.events if isinstance(event, ToolCall)]
        drawn = [event for event in self.events if isinstance(event, Drawn)]
        return {
            "answer": "".join(event.text for event in self.events if isinstance(event, Answer)),
            "reasoning": "".join(event.text for event in self.events if isinstance(event, Reasoning)),
            "tool_calls": [{"name": call.name, "arguments": dict(call.arguments)} for call in calls],
            "finish_reason": done.finish_reason,
            "usage": msgspec.to_builtins(done.usage),
            "timings": msgspec.to_builtins(done.timings),
            "context_used": done.context_used,
            "context_size": done.context_size,
            **({"logprobs": [_probability(event) for event in drawn]} if drawn else {}),
        }


def _probability(event: Drawn) -> dict[str, Any]:
    """A token, the natural logarithm of its probability, and the same of the likeliest in its place."""
    one, *top = (
        {"token": token.raw.decode("utf-8", "replace"), "bytes": list(token.raw), "logprob": token.logprob}
        for token in (event.token, *event.top)
    )
    return {**one, "thinking": event.thinking, "top": top}


def several(talk: Conversation, question: str, form: Form) -> list[dict[str, Any]]:
    """So many answers as the form says to one message, whose prompt is read once. Raises NemotronError.

    Ctrl-C, or an answer that fails, ends them all.
    """
    talk.add_user(question)
    streams = talk.answers(form.answers, top_logprobs=form.logprobs)
    with ExitStack() as open_:
        for stream in streams:
            open_.callback(stream.close)
        return [_described(stream) for stream in streams]


def _described(events: Iterable[AnyEvent]) -> dict[str, Any]:
    whole = Whole()
    try:
        for event in events:
            whole.take(event)
            if isinstance(event, Done):
                return whole.described(event)
    finally:
        whole.close()
    raise AssertionError("an answer ends with Done")
