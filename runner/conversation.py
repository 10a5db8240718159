"""A conversation: its messages, and the events of an answer as it comes. The terminal and the page both hold one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nemotron_gguf.runner.chat.going_on import Begun
from nemotron_gguf.runner.chat.messages import as_message, drop_oldest
from nemotron_gguf.runner.chat.template import Message, Tool
from nemotron_gguf.runner.errors import ContextOverflowError, RunnerError
from nemotron_gguf.runner.events import Answer, AnyEvent, Done, Reasoning, ToolCall, TurnsDropped
from nemotron_gguf.runner.in_thread import in_thread
from nemotron_gguf.runner.sampling import Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from nemotron_gguf.runner.grammar.schema.keywords import Schema
    from nemotron_gguf.runner.model import ChatModel
    from nemotron_gguf.runner.process.memory_messages import Saved
    from nemotron_gguf.runner.process.stream import AnswerStream


class Conversation:
    """Messages with a model, one after the other. Not for several threads, except `stop` and `stop_thinking`.

    What may be set between two turns: `system` (None for none), `tools`, `thinking`, `low_effort`, `budget`, the tokens
    it may think (None leaves room for the answer, 0 is as thinking off, a negative number sets no bound), and the form
    of the answers: `grammar` (GBNF) or `json_schema`.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        system: str | None = None,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        budget: int | None = None,
    ) -> None:
        self.model = model
        self.system, self.tools, self.thinking, self.budget = system, tuple(tools), thinking, budget
        self.low_effort = False
        self.grammar: str | None = None
        self.json_schema: Schema | str | None = None
        self.messages: list[dict[str, Any]] = []
        self.n_dropped = 0  # of the messages, so many are no longer sent: the context is too small
        self._turn: _Turn | None = None  # the answer under way
        self._stopped = threading.Event()  # of that answer, also before it has a stream

    def add_user(self, text: str) -> None:
        """Say something. What was said before and got no answer becomes one message with it, as templates want it."""
        self._settle()
        last = self.messages[-1] if len(self.messages) > self.n_dropped else {}
        if last.get("role") == "user" and isinstance(last.get("content"), str):
            text = f"{self.messages.pop()['content']}\n\n{text}"
        self.messages.append({"role": "user", "content": text})

    def add_tool_result(self, text: str) -> None:
        """Give the result of a tool that the model called; several calls are answered in their order."""
        self._settle()
        self.messages.append({"role": "tool", "content": text})

    def save_state(self, path: str | Path, *, replace: bool = False) -> Saved:
        """Write the conversation's memory to a file, for `ChatModel.restore_state`. Raises RunnerError as there."""
        self._settle()
        messages: list[Message] = [*self._system(), *self.messages[self.n_dropped :]]
        return self.model.save_state(
            path, messages, tools=self.tools, thinking=self.thinking, low_effort=self.low_effort, replace=replace
        )

    def clear(self) -> None:
        """Begin anew; the system message stays."""
        self._settle()
        self.messages.clear()
        self.n_dropped = 0

    def undo(self) -> str:
        """Take back the last user message and what followed it; returns its text, empty where there is none."""
        self._settle()
        self.n_dropped = 0
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return str(message["content"])
        return ""

    def stop(self) -> None:
        """End the answer under way, from any thread; what was said so far stays."""
        self._stopped.set()
        if self._turn:
            self._turn.stream.cancel()

    def stop_thinking(self) -> None:
        """Close the reasoning under way, from any thread; the answer follows."""
        if self._turn:
            self._turn.stream.end_thinking()

    def send(self, text: str, **options: Any) -> Iterator[AnyEvent]:
        """Say something, and the events of the answer: `add_user` and `reply` in one."""
        self.add_user(text)
        return self.reply(**options)

    def asend(self, text: str, **options: Any) -> AsyncIterator[AnyEvent]:
        """As `send`, for an event loop."""
        self.add_user(text)
        return self.areply(**options)

    def reply(
        self,
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        top_logprobs: int | None = None,
        begun: Begun | None = None,
    ) -> Iterator[AnyEvent]:
        """The model's answer to the messages so far, as events; the last is Done.

        `top_logprobs`: how many likely tokens to name beside each that is drawn, in `Drawn` events.
        `begun`: what the model has said of this answer already; it goes on from there, and both are one message.
        However it ends, what was said becomes part of the conversation. Raises RunnerError as `ChatModel.answer` does;
        where nothing had been said by then, the messages are as they were.
        """
        self._stopped.clear()
        dropped, turn = self._begin(sampling, max_tokens, stop, top_logprobs, begun)
        try:
            with turn.stream as stream:
                if dropped:
                    yield TurnsDropped(dropped)
                for event in stream:
                    self._take(turn, event)
                    yield event
        finally:
            self._settle(turn)

    async def areply(
        self,
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        top_logprobs: int | None = None,
        begun: Begun | None = None,
    ) -> AsyncIterator[AnyEvent]:
        """As `reply`, for an event loop. Who leaves it early ends the answer; what was said is kept as well."""
        self._stopped.clear()
        dropped, turn = await in_thread(
            lambda: self._begin(sampling, max_tokens, stop, top_logprobs, begun),
            self._stopped,
            lambda begun: self._settle(begun[1]),
        )
        try:
            if dropped:
                yield TurnsDropped(dropped)
            async for event in turn.stream:
                self._take(turn, event)
                yield event
        finally:
            self._settle(turn)

    def answers(self, n: int, *, top_logprobs: int | None = None) -> list[AnswerStream]:
        """Several answers to what was said last, none of which becomes part of it. Raises as `ChatModel.answers`."""
        self._settle()
        messages = [*self._system(), *self.messages[self.n_dropped :]]
        return self.model.answers(messages, n, top_logprobs=top_logprobs, **self._wishes())

    def _begin(
        self,
        sampling: Sampling | None,
        max_tokens: int | None,
        stop: Sequence[str],
        top_logprobs: int | None,
        begun: Begun | None,
    ) -> tuple[int, _Turn]:
        """How many turns had to be dropped, and the answer that begins."""
        self._settle()
        if self.n_dropped >= len(self.messages):  # they were exchanged meanwhile
            self.n_dropped = 0
        turns = 0
        while True:
            messages: list[Message] = [*self._system(), *self.messages[self.n_dropped :]]
            try:
                stream = self.model.answer(
                    messages,
                    sampling=sampling,
                    max_tokens=max_tokens,
                    stop=stop,
                    top_logprobs=top_logprobs,
                    begun=begun,
                    cancelled=self._stopped,
                    **self._wishes(),
                )
                break
            except ContextOverflowError:
                kept = drop_oldest(self.messages[self.n_dropped :])
                if not self.model.drops_oldest or kept is None:
                    raise
                self.n_dropped, turns = len(self.messages) - len(kept), turns + 1
        self._turn = _Turn(stream, len(self.messages), begun or Begun())
        if self._stopped.is_set():
            stream.cancel()
        return turns, self._turn

    def _take(self, turn: _Turn, event: AnyEvent) -> None:
        """Keep what an event says; at the end the engine is told how the next prompt will begin."""
        turn.take(event)
        if not isinstance(event, Done):
            return
        self._settle(turn)
        if turn.words and not turn.calls and self.model.setup.idle_reading:
            messages = [*self._system(), *self.messages[self.n_dropped :]]
            switches = {"tools": self.tools, "thinking": self.thinking, "low_effort": self.low_effort}
            # it takes a moment in a long conversation, which nobody shall wait for
            threading.Thread(
                target=_anticipate, args=(self.model, turn.stream, messages, switches), daemon=True
            ).start()

    def _wishes(self) -> dict[str, Any]:
        """How it is to be answered, as `ChatModel.answer` takes it."""
        names = ("tools", "thinking", "budget", "low_effort", "grammar", "json_schema")
        return {name: getattr(self, name) for name in names}

    def _system(self) -> list[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _settle(self, turn: _Turn | None = None) -> None:
        """A turn is over, or somebody left it: what was said becomes part of the conversation, once, in its place."""
        turn = turn or self._turn
        if turn is None or turn is not self._turn:
            return  # it has been settled: the next one began before the generator of this one was told that it ends
        self._turn = None
        turn.stream.cancel()
        if turn.anything and turn.place <= len(self.messages):
            message = as_message("".join(turn.thoughts), "".join(turn.words), turn.calls)
            self.messages.insert(turn.place, message)


def _anticipate(
    model: ChatModel, stream: AnswerStream, messages: Sequence[Message], switches: Mapping[str, Any]
) -> None:
    with contextlib.suppress(RunnerError):  # it would only have saved time
        model.anticipate(stream, messages, **switches)


class _Turn:
    """An answer under way: its stream, its place among the messages, and what came of it so far."""

    def __init__(self, stream: AnswerStream, place: int, begun: Begun) -> None:
        self.stream, self.place = stream, place
        self.thoughts = [begun.reasoning] if begun.reasoning else []
        self.words = [begun.answer] if begun.answer else []
        self.calls: list[ToolCall] = []

    @property
    def anything(self) -> bool:
        """Whether anything was said."""
        return bool(self.thoughts or self.words or self.calls)

    def take(self, event: AnyEvent) -> None:
        """Keep what an event says."""
        if isinstance(event, Reasoning):
            self.thoughts.append(event.text)
        elif isinstance(event, Answer):
            self.words.append(event.text)
        elif isinstance(event, ToolCall):
            self.calls.append(event)
