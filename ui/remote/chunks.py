"""The pieces of an answer in OpenAI's form, made into events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nemotron_gguf.runner import AnyEvent, Done, Reasoning, RunnerError, Timings, ToolCall, Usage
from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.chat.stream import StreamParser
from nemotron_gguf.runner.events import FinishReason
from nemotron_gguf.ui.remote.failures import message_of

MOST_CALLS = 128  # of one answer
_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


@dataclass
class _Call:
    """A call of a tool, as it comes in pieces."""

    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Chunks:
    """Reads the pieces of one answer; `done` then tells how it ended."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], context_size: int) -> None:
        self._started = time.monotonic()
        self._first: float | None = None
        self._last = self._started
        self._context_size = context_size
        # a server that does not take the reasoning out leaves its marks in the text
        self._parser = StreamParser(ChatFormat(), tools)
        self._calls: dict[int, _Call] = {}
        self._n_text_calls = 0
        self._reason: FinishReason | None = None
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self._n_pieces = self._n_thoughts = 0

    @property
    def is_ended(self) -> bool:
        """Whether the server has said why it ended."""
        return self._reason is not None

    def take(self, chunk: Any) -> Iterator[AnyEvent]:
        """The events of a piece. Raises RunnerError where it tells of an error."""
        if not isinstance(chunk, dict):
            raise RunnerError(f"the server sent {str(chunk)[:80]!r}, no piece of an answer; is it OpenAI's API?")
        if chunk.get("error"):
            raise RunnerError(f"the server gave up: {message_of(chunk)}")
        self._usage = _mapping(chunk, "usage") or self._usage
        self._timings = _mapping(chunk, "timings") or self._timings
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = _mapping(choice, "delta") or _mapping(choice, "message")
        yield from self._texts(delta)
        self._take_calls(delta)
        if choice.get("finish_reason"):
            self._reason = _REASONS.get(str(choice["finish_reason"]), "stop")

    def _texts(self, delta: Mapping[str, Any]) -> Iterator[AnyEvent]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            self._count(thinking=True)
            yield Reasoning(thought)
        said = delta.get("content")
        if isinstance(said, str) and said:
            events = self._parser.feed(said)
            self._count(thinking=self._parser.thinking)
            self._n_text_calls += sum(isinstance(event, ToolCall) for event in events)
            yield from events

    def _count(self, *, thinking: bool) -> None:
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._n_pieces += 1
        self._n_thoughts += thinking

    def _take_calls(self, delta: Mapping[str, Any]) -> None:
        calls = delta.get("tool_calls")
        for at, piece in enumerate(calls if isinstance(calls, list) else ()):
            if not isinstance(piece, dict):
                continue
            index = piece.get("index")
            call = self._calls.setdefault(index if isinstance(index, int) else at, _Call())
            if len(self._calls) > MOST_CALLS:
                raise RunnerError(f"the server sent more than {MOST_CALLS} calls of tools at once")
            function = _mapping(piece, "function")
            call.name = call.name or str(function.get("name") or "")
            arguments = function.get("arguments")
            if isinstance(arguments, dict):  # Ollama's own form
                arguments = json.dumps(arguments)
            call.arguments.append(arguments if isinstance(arguments, str) else "")

    def rest(self) -> Iterator[AnyEvent]:
        """What was held back: the end of a text, and the calls of tools."""
        events = self._parser.finish()
        self._n_text_calls += sum(isinstance(event, ToolCall) for event in events)
        yield from events
        for _, call in sorted(self._calls.items()):
            yield ToolCall(call.name, _arguments(call))

    def done(self, *, cancelled: bool) -> Done:
        """How it ended, what it took, as far as the server has told; pieces stand for tokens where it has not."""
        reason: FinishReason = self._reason or "stop"
        if cancelled:
            reason = "cancelled"
        elif reason == "stop" and (self._calls or self._n_text_calls):
            reason = "tool_calls"
        usage = self._usage_told()
        used = usage.prompt_tokens + usage.completion_tokens
        return Done(reason, usage, self._timings_told(usage), used, self._context_size)

    def _usage_told(self) -> Usage:
        told, prompt = self._usage, _mapping(self._usage, "prompt_tokens_details")
        details = _mapping(told, "completion_tokens_details")
        completion = _whole(told, "completion_tokens", self._n_pieces)
        return Usage(
            prompt_tokens=_whole(told, "prompt_tokens", 0),
            cached_tokens=_whole(prompt, "cached_tokens", 0),
            completion_tokens=completion,
            reasoning_tokens=min(_whole(details, "reasoning_tokens", self._n_thoughts), completion),
        )

    def _timings_told(self, usage: Usage) -> Timings:
        """llama-server tells its own; else it is what the clock here says."""
        first = (self._first or self._last) - self._started
        told = self._timings
        prompt = _number(told, "prompt_ms", first * 1000) / 1000
        generation = _number(told, "predicted_ms", (self._last - self._started - first) * 1000) / 1000
        per_second = usage.completion_tokens / generation if generation > 0 else 0.0
        read = (usage.prompt_tokens - usage.cached_tokens) / prompt if prompt > 0 else 0.0
        return Timings(
            prompt_seconds=prompt,
            generation_seconds=generation,
            prompt_per_second=_number(told, "prompt_per_second", read),
            generated_per_second=_number(told, "predicted_per_second", per_second),
            first_token_seconds=first,
        )


def _arguments(call: _Call) -> Mapping[str, Any]:
    """A call's arguments. Raises RunnerError for what is no object."""
    text = "".join(call.arguments)
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RunnerError(f"the model called {call.name[:60]!r} with what is no JSON object: {text[:80]!r}; ask again")
    return found


def _mapping(of: Any, key: str) -> Mapping[str, Any]:
    found = of.get(key) if isinstance(of, Mapping) else None
    return found if isinstance(found, dict) else {}


def _whole(of: Mapping[str, Any], key: str, otherwise: int) -> int:
    found = of.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else otherwise


def _number(of: Mapping[str, Any], key: str, otherwise: float) -> float:
    found = of.get(key)
    return float(found) if isinstance(found, int | float) and 0 <= found < 1e12 else otherwise
