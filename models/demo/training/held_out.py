"""Conversations that the training never drew, kind by kind, and whether an answer is the expected one, word for word."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemotron_gguf.models.demo.training import talk, world
from nemotron_gguf.models.demo.training.tools import Message
from nemotron_gguf.models.demo.training.world import as_messages

Drawn = tuple[list[Message], list[Message]]
"""Messages, of which the last is the expected one, and the tools on offer."""


def _single(kind: Callable[[random.Random, str], talk.Turn]) -> Callable[[random.Random, str], Drawn]:
    return lambda rng, lang: (as_messages(kind(rng, lang)), [])


def _turns(kind: Callable[[random.Random, str], list[talk.Turn]]) -> Callable[[random.Random, str], Drawn]:
    return lambda rng, lang: ([message for turn in kind(rng, lang) for message in as_messages(turn)], [])


KINDS: Mapping[str, Callable[[random.Random, str], Drawn]] = {
    "facts": _single(talk.fact),
    "small talk": _single(talk.small_talk),
    "unknown": _single(talk.unknown),
    "sums": _single(talk.arithmetic),
    "told before": _turns(world.remembering),
    "never told": _turns(world.forgetting),
    "tools": world.with_tools,
    "to repeat": _single(talk.echo),
}


@dataclass(frozen=True)
class Case:
    """A conversation that waits for its last answer, `expected`; `messages` have reasoning only where `thinking`."""

    kind: str
    language: str
    thinking: bool
    messages: tuple[Message, ...]
    tools: tuple[Message, ...]
    expected: Message

    def is_right(self, said: str, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
        """Whether the answer, or the tool calls as (name, arguments), are the expected ones."""
        wanted = [call["function"] for call in self.expected.get("tool_calls", ())]
        if wanted:
            return [(call["name"], dict(call["arguments"])) for call in wanted] == [(n, dict(a)) for n, a in calls]
        return not calls and said.strip() == (self.expected["content"] or "").strip()


def draw(seed: int, count: int) -> Iterator[Case]:
    """`count` conversations of each kind and language, half of them with thinking; the same ones for the same seed.

    The training draws from seeds of three million and more, so a smaller one gives conversations of its own.
    """
    assert seed < 1_000_000, seed
    rng = random.Random(seed)
    for kind, make in KINDS.items():
        for language in talk.LANGUAGES:
            for number in range(count):
                messages, tools = make(rng, language)
                thinking = number % 2 == 0
                shown = [{k: v for k, v in m.items() if thinking or k != "reasoning_content"} for m in messages]
                yield Case(kind, language, thinking, tuple(shown[:-1]), tuple(tools), messages[-1])
