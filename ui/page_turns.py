"""What the chat page shows: a question and its answer as states of the page, without a word of Gradio."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from nemotron_gguf.runner import Answer, Conversation, Done, EngineBusyError, Reasoning, RunnerError

REDRAW = 0.05  # seconds between two states of an answer that are sent to the browser

Row: TypeAlias = dict[str, Any]
"""A message as the page's chatbot shows it: role, content, and a title in `metadata` for what is folded."""


@dataclass(frozen=True, slots=True)
class State:
    """What stands in the message box and in the conversation, and whether an answer is under way."""

    box: str
    rows: list[Row]
    answering: bool


class Visit:
    """A tab's conversation, which can be replaced by a new one at any time, also while an answer is under way."""

    def __init__(self, begin: Callable[[], Conversation]) -> None:
        self.begin = begin
        self.conversation = begin()

    def clear(self) -> None:
        """Stop what is under way and begin anew."""
        self.conversation.stop()
        self.conversation = self.begin()


def take_turn(visit: Visit, said: str, words: Mapping[str, str], tell: Callable[[str], object]) -> Iterator[State]:
    """One question and its answer, as states of the page.

    Where it fails, `tell` is called with the reason and the question is back in the box.
    """
    conversation = visit.conversation
    if not said.strip():
        yield State(said, rows(conversation.messages, words), False)
        return
    conversation.add_user(said)
    box = ""
    yield State(box, rows(conversation.messages, words), True)
    try:
        with closing(_growing(conversation, words, tell)) as growing:
            for latest in growing:
                if visit.conversation is not conversation:
                    break
                yield State(box, rows(conversation.messages, words) + latest, True)
    except RunnerError as error:
        tell(words["busy"] if isinstance(error, EngineBusyError) else str(error))
        box = conversation.undo()
    yield State(box, rows(visit.conversation.messages, words), False)


def _growing(
    conversation: Conversation, words: Mapping[str, str], tell: Callable[[str], object]
) -> Generator[list[Row], None, None]:
    """The rows of an answer while it grows, a few times a second."""
    thought, spoken, drawn = "", "", 0.0
    for event in conversation.reply():
        if isinstance(event, Reasoning):
            thought += event.text
        elif isinstance(event, Answer):
            spoken += event.text
        elif isinstance(event, Done) and event.finish_reason == "length":
            tell(words["cut"])
        if time.monotonic() - drawn > REDRAW and not isinstance(event, Done):
            drawn = time.monotonic()
            yield answer_rows(thought, spoken, words, False)


def rows(messages: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> list[Row]:
    """A conversation's messages as the chatbot shows them."""
    shown: list[Row] = []
    for message in messages:
        if message["role"] == "assistant":
            shown += answer_rows(message.get("reasoning_content", ""), message["content"], words, True)
        else:
            shown.append({"role": message["role"], "content": message["content"]})
    return shown


def answer_rows(thought: str, spoken: str, words: Mapping[str, str], finished: bool) -> list[Row]:
    """An answer: the reasoning as a row of its own, open while it grows and folded once the answer begins."""
    shown: list[Row] = []
    if thought:
        over = finished or bool(spoken)
        title = words["thought"] if over else words["thinks"]
        metadata = {"title": title, "status": "done" if over else "pending"}
        shown.append({"role": "assistant", "content": thought, "metadata": metadata})
    if spoken or not thought:
        shown.append({"role": "assistant", "content": spoken})
    return shown
