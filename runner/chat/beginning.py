"""How the next prompt of a conversation will begin, whatever is asked then: the template is asked, twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nemotron_gguf.runner.chat.literal import Prompt, Specials
from nemotron_gguf.runner.chat.messages import Message
from nemotron_gguf.runner.chat.template import ChatTemplate

_QUESTIONS = ("1", "a")  # which have nothing in common


def next_beginning(
    template: ChatTemplate, messages: Sequence[Message], specials: Specials, options: Mapping[str, Any]
) -> Prompt:
    """What two prompts have in common that go on with different questions after `messages`.

    `options` are those of `ChatTemplate.prompt`. Raises RunnerError as that does.
    """
    one, other = (
        template.prompt([*messages, {"role": "user", "content": question}], specials, **options)
        for question in _QUESTIONS
    )
    length = min(len(one.text), len(other.text))
    same = next((at for at in range(length) if one.text[at] != other.text[at]), length)
    return Prompt(one.text[:same], tuple(cut for cut in one.cuts if cut <= same))
