"""A conversation: its messages, and the events of an answer as it comes. The terminal and the page both hold one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nemotron_gguf.runner.engine import Engine, Progress
from nemotron_gguf.runner.reasoning import MARKERS, Answer, Reasoning, Splitter, ToolCall, parse_tool_calls
from nemotron_gguf.runner.settings import Sampling
from nemotron_gguf.runner.template import ChatTemplate, Message, Tool
from nemotron_gguf.runner.vocabulary import Detokenizer


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a turn: read, of these already in memory, generated, of these thought."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a turn took, in seconds, and what that makes in tokens a second."""

    prompt_seconds: float
    generation_seconds: float
    prompt_per_second: float
    generated_per_second: float


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer: why it ended, what it took."""

    finish_reason: Literal["stop", "length", "cancelled", "tool_calls"]
    usage: Usage
    timings: Timings


Event: TypeAlias = Reasoning | Answer | ToolCall | Done


class Conversation:
    """Messages with a model, one after the other. Not for several threads, except `stop`."""

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        *,
        system: str | None = None,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
    ) -> None:
        self.engine, self.template = engine, template
        self.system, self.tools, self.thinking = system, tuple(tools), thinking
        self.messages: list[dict[str, Any]] = []
        self._stopped = threading.Event()  # of the answer under way

    def add_user(self, text: str) -> None:
        """Say something."""
        self.messages.append({"role": "user", "content": text})

    def add_tool_result(self, text: str) -> None:
        """Give the result of a tool that the model called; several calls are answered in their order."""
        self.messages.append({"role": "tool", "content": text})

    def clear(self) -> None:
        """Begin anew; the system message stays."""
        self.messages.clear()

    def undo(self) -> str:
        """Take back the last user message and what followed it; returns its text, empty where there is none."""
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return str(message["content"])
        return ""

    def stop(self) -> None:
        """End the answer under way, from any thread; what was said so far stays."""
        self._stopped.set()

    def prompt(self) -> str:
        """What the model reads before it answers. Raises RunnerError where the template refuses."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return self.template.render([*system, *self.messages], tools=self.tools, thinking=self.thinking)

    def reply(self, *, sampling: Sampling | None = None, max_tokens: int | None = None) -> Iterator[Event]:
        """The model's answer to the messages so far, as events; the last is Done.

        However it ends, what was said becomes part of the conversation. Raises RunnerError as the engine and the
        template do; where nothing had been said by then, the messages are as they were.
        """
        self._stopped = threading.Event()
        setup, turn, prompt = self.engine.setup, _Turn(), self.prompt()
        tokens = self.engine.vocabulary.tokenize(prompt)
        stream = self.engine.generate(
            tokens,
            sampling or setup.sampling,
            max_tokens or setup.max_tokens,
            progress=turn.progress,
            cancelled=self._stopped,
        )
        splitter, detokenizer = Splitter(prompt), Detokenizer(self.engine.vocabulary, MARKERS)
        try:
            for token in stream:
                turn.n_thought += splitter.thinking
                yield from turn.collect(splitter.feed(detokenizer.feed(token)))
            yield from turn.collect(splitter.feed(detokenizer.finish()))
            yield from turn.collect(splitter.finish())
        finally:
            stream.close()  # type: ignore[attr-defined]  # an iterator by contract, a generator by nature
            calls = self._remember(turn)
        yield from calls
        yield turn.done(bool(calls))

    def _remember(self, turn: _Turn) -> tuple[ToolCall, ...]:
        """Add what was said to the messages; the reasoning beside it, for the template to keep or drop."""
        if not (turn.thoughts or turn.words):
            return ()
        content, calls = parse_tool_calls("".join(turn.words), self.tools)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if turn.thoughts:
            message["reasoning_content"] = "".join(turn.thoughts)
        if calls:
            message["tool_calls"] = [_as_message(call) for call in calls]
        self.messages.append(message)
        return calls


@dataclass
class _Turn:
    """An answer under way."""

    progress: Progress = field(default_factory=Progress)
    thoughts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    n_thought: int = 0

    def collect(self, parts: Iterator[Reasoning | Answer]) -> Iterator[Reasoning | Answer]:
        for part in parts:
            (self.thoughts if isinstance(part, Reasoning) else self.words).append(part.text)
            yield part

    def done(self, called: bool) -> Done:
        """The event that ends the turn; `called` where the model called a tool."""
        p = self.progress
        read, reason = p.prompt_tokens - p.cached_tokens, p.finish_reason
        return Done(
            "tool_calls" if called and reason == "stop" else reason,
            Usage(p.prompt_tokens, p.cached_tokens, p.generated_tokens, self.n_thought),
            Timings(
                p.prompt_seconds,
                p.generation_seconds,
                read / p.prompt_seconds if p.prompt_seconds else 0.0,
                p.generated_tokens / p.generation_seconds if p.generation_seconds else 0.0,
            ),
        )


def _as_message(call: ToolCall) -> Mapping[str, Any]:
    return {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
