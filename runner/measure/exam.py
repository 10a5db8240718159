"""The demo model's own questions, put to a file of it: how many answers are right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from nemotron_gguf.models.demo import CHECKPOINT, QUESTIONS, Question
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.events import Answer, Done, ToolCall
from nemotron_gguf.runner.model import ChatModel
from nemotron_gguf.runner.preflight.vocabulary import tokens

_LONGEST = 300  # tokens of an answer


@dataclass(frozen=True, slots=True)
class Marks:
    """So many answers were right, of so many."""

    right: int
    total: int


def take_exam(model: ChatModel, on_progress: Callable[[int, int], object] | None = None) -> Marks:
    """Ask all questions; the model should draw at temperature 0. `on_progress` is told how many are done, of how many.

    Raises RunnerError for a file of another model.
    """
    if not _is_demo(model):
        raise RunnerError(f"{model.file.path} is {model.name}, and the questions are the demo model's; leave them out")
    right = 0
    for index, question in enumerate(QUESTIONS):
        right += is_right(model, question)
        if on_progress:
            on_progress(index + 1, len(QUESTIONS))
    return Marks(right, len(QUESTIONS))


def _is_demo(model: ChatModel) -> bool:
    """Whether a file has the demo model's vocabulary, whatever its name: a folder's, or its maker's."""
    vocabulary = json.loads((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return set(vocabulary) <= set(tokens(model.file))


def is_right(model: ChatModel, question: Question) -> bool:
    """Whether the answer ends by itself and has all that is expected in it."""
    conversation = model.conversation(tools=question.tools, thinking=question.thinking)
    conversation.messages.extend(dict(message) for message in question.messages)
    words, reason = [], ""
    for event in conversation.reply(max_tokens=_LONGEST):
        match event:
            case Answer(text):
                words.append(text)
            case ToolCall(name, arguments):
                words.append(f"<function={name}>{json.dumps(dict(arguments), ensure_ascii=False)}")
            case Done(finish_reason):
                reason = finish_reason
    said = "".join(words)
    return reason in ("stop", "tool_calls") and all(part in said for part in question.expected)
