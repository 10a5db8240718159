"""What comes out of an answer, piece by piece: the events that the terminal, the page, the server and a script see.

They are also what crosses from the engine's process to the front, so each is a value that can be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct


class Event(Struct, frozen=True, tag=True):
    """A piece of an answer; the last is always `Done`."""


class PromptProgress(Event, frozen=True):
    """The prompt is being read: `done` of `total` tokens are in the model's memory."""

    done: int
    total: int


class TurnsDropped(Event, frozen=True):
    """So many of the oldest turns no longer fit the context and were left out."""

    count: int


class Reasoning(Event, frozen=True):
    """A piece of what the model thinks before it answers."""

    text: str


class Answer(Event, frozen=True):
    """A piece of the answer."""

    text: str


class ToolCall(Event, frozen=True):
    """A call that the model asks for: the tool's name and its arguments by name."""

    name: str
    arguments: Mapping[str, Any]


class TokenProbability(Struct, frozen=True):
    """A token that was possible at some place: its bytes, and the natural logarithm of its probability."""

    token: int
    raw: bytes
    logprob: float


class Drawn(Event, frozen=True):
    """A token that was drawn and the likeliest ones in its place; sent only where probabilities were asked for.

    `thinking`: whether it belongs to the reasoning.
    """

    token: TokenProbability
    top: tuple[TokenProbability, ...]
    thinking: bool


class Usage(Struct, frozen=True):
    """Tokens of a turn.

    Read, of these already in memory, drawn by the model, of these inside its reasoning (without the marker that ends
    it). `forced_tokens` were written by the engine, to end a reasoning; they count nowhere else. `guessed_tokens` were
    computed because the text had them before, and as many as `right_tokens` of them were drawn.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    forced_tokens: int = 0
    guessed_tokens: int = 0
    right_tokens: int = 0


class Timings(Struct, frozen=True):
    """How long a turn took, in seconds, and what that makes in tokens a second.

    `first_token_seconds` until the first piece of text was there; of `generation_seconds` so many as `decode_seconds`
    were spent in the model, the rest is the engine's own.
    """

    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    prompt_per_second: float = 0.0
    generated_per_second: float = 0.0
    first_token_seconds: float = 0.0
    decode_seconds: float = 0.0


FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "tool_calls"]
"""The model ended by itself; its tokens or the context were used up; somebody stopped it; it waits for its tools."""


class Done(Event, frozen=True):
    """The end of an answer: why it ended, what it took, and how full the context is (tokens)."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    context_used: int = 0
    context_size: int = 0


AnyEvent: TypeAlias = PromptProgress | TurnsDropped | Reasoning | Answer | ToolCall | Drawn | Done
