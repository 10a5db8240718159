"""One answer: the prompt is read, tokens are drawn, their text is taken apart; somebody may end it at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any, TypeAlias

from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.chat.stream import PlainText, StreamParser
from nemotron_gguf.runner.engine.constraint import Constraint
from nemotron_gguf.runner.engine.context import Context
from nemotron_gguf.runner.engine.held import Held
from nemotron_gguf.runner.engine.lookup import Lookup
from nemotron_gguf.runner.engine.matchers import Matchers
from nemotron_gguf.runner.engine.sampler import Sampler
from nemotron_gguf.runner.engine.spellings import Spellings
from nemotron_gguf.runner.engine.stops import StopTexts
from nemotron_gguf.runner.engine.thinking import ThinkingCount, default_budget
from nemotron_gguf.runner.engine.turns import turn_ends, worth_keeping
from nemotron_gguf.runner.engine.vocabulary import Detokenizer, Vocabulary
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.events import (
    Answer,
    AnyEvent,
    Done,
    Drawn,
    FinishReason,
    PromptProgress,
    Timings,
    ToolCall,
    Usage,
)
from nemotron_gguf.runner.grammar.effort import effort
from nemotron_gguf.runner.grammar.graph import Grammar
from nemotron_gguf.runner.process.messages import Generate

STEPS_A_TOKEN = 200_000  # of reading a grammar: a third of a second, where a usual token takes a hundred steps

Events: TypeAlias = list[AnyEvent]


class Answering:
    """One answer under way: what it says comes from here, what the model computes for it from its `Scheduler`.

    First `prepare`, then `begin` once there is a place for it, `progress` while its prompt is read, `draw` for each
    token as soon as the model has read `pending`, at last `end`.
    """

    def __init__(
        self,
        task: Generate,
        vocabulary: Vocabulary,
        sampler: Sampler,
        context: Context,
        *,
        number: int = 0,
        ended_thinking: Callable[[], bool] = lambda: False,
        matchers: Matchers | None = None,
    ) -> None:
        """`number` is the task's; `ended_thinking` says whether somebody wishes that by now.

        `matchers` are for a task with a grammar.
        """
        self.task, self.vocabulary, self.sampler, self.context = task, vocabulary, sampler, context
        self.number, self.ended_thinking, self.matchers = number, ended_thinking, matchers
        self.constraint: Constraint | None = None
        self.parser = StreamParser(task.format, task.tools) if task.format else PlainText()
        self.form = task.format or ChatFormat(begin="", end="", close="", close_empty="", tools="none")
        self.detokenizer = Detokenizer(vocabulary, self.parser.markers)
        self.stops = StopTexts(task.stop)
        self.thought = ThinkingCount(self.form.end)
        self.lookup = Lookup()
        self.prompt: list[int] = []
        self.pending: list[int] = []  # tokens that the model has to read before the next is drawn
        self.held: Held | None = None  # its place in the context
        self.reason: FinishReason | None = None  # why no more is drawn
        self.plan: list[int] = []  # places in the prompt at which a checkpoint is to be kept
        self.ends: list[int] = []  # of the prompt's turns
        self.done = 0  # tokens of the prompt that are in memory
        self.cached_tokens = self.drawn = self.forced = self.guessed = self.right = 0
        self.calls = self.is_reading = False
        self.is_told = False  # that others come first
        self.alone = False  # its prompt is not to be read together with others'
        self.asked = self.started = perf_counter()
        self.last_read = 0.0  # when a part of the prompt was read, by the same clock
        self.read_seconds = self.first_seconds = self.spent = self.decoded_before = 0.0
        self.budget = 0

    def prepare(self) -> Iterator[None]:
        """Take the prompt apart, a part of it at a step. Raises RunnerError for one that cannot be answered."""
        prompt = self.task.prompt
        if isinstance(prompt, str):
            for index, ids in enumerate(self.vocabulary.parts(prompt, self.task.cuts)):
                self.prompt += ids
                if len(self.prompt) > self.context.size:
                    raise self.context.overflow(f"more than {len(self.prompt)}")
                if index:
                    yield
            self.prompt = self.vocabulary.begun(self.prompt)
            self.ends = turn_ends(self.prompt, self.vocabulary)
        else:
            self.prompt = list(prompt)
        self._check()
        if self.task.grammar is not None:
            yield from self._constrain(self.task.grammar)

    def _constrain(self, grammar: Grammar) -> Iterator[None]:
        assert self.matchers is not None
        for spelled in self.matchers.spellings():
            if spelled is None:
                yield
                continue
            self.constraint = self._constraint(grammar, spelled)
            if self.parser.thinking:
                self.constraint.free()

    def _constraint(self, grammar: Grammar, spelled: Spellings) -> Constraint:
        assert self.matchers is not None
        with self._effort():
            matcher = self.matchers.of(grammar)
        marks = self.parser.markers
        return Constraint(matcher, spelled, self.vocabulary, marks, self.form.begin, self.form.end)

    def _check(self) -> None:
        prompt, room = self.prompt, max(self.task.room, 1)
        if not prompt:
            raise RunnerError("there is nothing to answer: the prompt has no tokens")
        if len(prompt) + room > self.context.size:
            raise self.context.overflow(str(len(prompt)))
        if min(prompt) < 0 or max(prompt) >= self.vocabulary.size:
            wrong = next(token for token in prompt if not 0 <= token < self.vocabulary.size)
            raise RunnerError(f"token {wrong} is not in the vocabulary of {self.vocabulary.size}")

    def begin(self, held: Held, reach: int) -> Events:
        """It has a place in the context, where so many tokens of its prompt are already."""
        self.held, self.done, self.cached_tokens = held, reach, reach
        self.plan = [] if self.context.rolls_back else worth_keeping(self.ends, reach, len(self.prompt))
        self.is_reading, self.started = True, perf_counter()
        return [PromptProgress(reach, len(self.prompt))]

    def suspend(self) -> None:
        """Its place is needed by others; it begins again later."""
        self.held, self.is_reading = None, False

    def part(self, most: int) -> list[int]:
        """The next tokens of its prompt, at most so many, and none beyond a place to keep a checkpoint at."""
        stop = next((place for place in self.plan if place > self.done), len(self.prompt))
        return self.prompt[self.done : min(self.done + most, stop)]

    def progress(self, done: int) -> Events:
        """So much of its prompt has been read; behind the last of it the first token can be drawn."""
        self.done = done
        events: Events = [PromptProgress(done, len(self.prompt))]
        if done == len(self.prompt):
            self.is_reading = False
            self.read_seconds = perf_counter() - self.started
            self.decoded_before = self.context.decode_seconds
            self.sampler.accept(self.prompt)
            self.budget = self._budget()
            if self._due():
                events += self._end_thinking()
        return events

    @property
    def left(self) -> int:
        """Tokens that may still be drawn."""
        return (self.task.max_tokens or self.context.size) - self.drawn

    def draw(self, row: int) -> Events:
        """The next token, from a row of the last computation; sets `pending`, or the `reason` to end."""
        token = self._drawn(row)
        if self.vocabulary.is_end(token) and not self.task.ignore_end:
            self.reason = "stop"
            return []
        events = self._take(token, row)
        if events and not self.first_seconds:
            self.first_seconds = perf_counter() - self.asked
        self.pending = [token]
        if self.stops.hit or (self.constraint and self.constraint.is_over):
            self.reason = "stop"
        elif self.drawn == self.task.max_tokens:
            self.reason = "length"
        elif self._due():
            events += self._end_thinking()
        return events

    def _drawn(self, row: int) -> int:
        if self.constraint is None:
            return self.sampler.draw(self.context.handle, row)
        with self._effort():
            return self.sampler.draw_within(self.constraint, self.context.handle, row)

    def _effort(self) -> AbstractContextManager[None]:
        """Others wait for this thread, so that no token may take long."""
        return effort(STEPS_A_TOKEN, "the grammar: reading the answer so far")

    def end(self, reason: FinishReason) -> Events:
        """What is left to say, and `Done`."""
        self.spent = perf_counter() - self.started
        is_begun = bool(self.read_seconds)
        return [*(self._finish() if is_begun and reason != "cancelled" else []), self._done(reason)]

    def _budget(self) -> int:
        """Tokens that may be thought."""
        wished = self.task.reasoning_budget
        room = self.context.size - len(self.prompt)
        if wished is not None:
            return wished if wished >= 0 else room + 1
        within_context = default_budget(max(room - len(self.vocabulary.encode(self.form.close)), 0))
        return min(within_context, default_budget(self.task.max_tokens or room))

    def _take(self, token: int, row: int) -> Events:
        """A drawn token becomes events."""
        self.drawn += 1
        text, before = self.detokenizer.feed(token), self.parser.thinking
        events: Events = []
        if self.task.top_logprobs is not None:
            chosen, *top = self.sampler.probabilities(self.context.handle, [token], self.task.top_logprobs, row)
            events.append(Drawn(chosen, tuple(top), before))
        events += self._parse(text)
        self.thought.add(text, before, self.parser.thinking)
        if self.constraint:
            with self._effort():
                self.constraint.take(token, self.parser.thinking)
        return events

    def _parse(self, text: str) -> Events:
        return self._until_stop(self.parser.feed(text)) if text else []

    def _until_stop(self, parts: Sequence[Any]) -> Events:
        """The parser's events, the answer among them only up to a stop text."""
        events: Events = []
        for part in parts:
            if self.stops.hit:
                break
            if isinstance(part, Answer):
                said = self.stops.feed(part.text)
                events += [Answer(said)] if said else []
                continue
            if isinstance(part, ToolCall):
                self.calls = True
                events += self._held()
            events.append(part)
        return events

    def _held(self) -> Events:
        text = self.stops.finish()
        return [Answer(text)] if text else []

    def _due(self) -> bool:
        return self.parser.thinking and (self.thought.count >= self.budget or self.ended_thinking())

    def _end_thinking(self) -> Events:
        """Write the end of the reasoning in the model's place; the answer follows."""
        text = self.form.close if self.thought.count else self.form.close_empty
        close = self.vocabulary.encode(text)
        self.pending = [*self.pending, *close]
        self.sampler.accept(close)
        self.forced += len(close)
        self.detokenizer.forget()
        if self.constraint:
            self.constraint.bind()
        return self._parse(text)

    def _finish(self) -> Events:
        """What was held back until it was clear what it is."""
        if self.stops.hit:
            return []
        events = self._parse(self.detokenizer.finish())
        return [*events, *self._until_stop(self.parser.finish()), *self._held()]

    def _done(self, reason: FinishReason) -> Done:
        generating = max(self.spent - self.read_seconds, 0.0)
        n_prompt = len(self.prompt)
        read = n_prompt - self.cached_tokens
        return Done(
            "tool_calls" if self.calls and reason == "stop" else reason,
            Usage(n_prompt, self.cached_tokens, self.drawn, self.thought.count, self.forced, self.guessed, self.right),
            Timings(
                prompt_seconds=self.read_seconds,
                generation_seconds=generating,
                prompt_per_second=read / self.read_seconds if self.read_seconds else 0.0,
                generated_per_second=self.drawn / generating if generating else 0.0,
                first_token_seconds=self.first_seconds,
                decode_seconds=self.context.decode_seconds - self.decoded_before,
            ),
            context_used=len(self.held.tokens) if self.held else 0,
            context_size=self.context.size,
        )
