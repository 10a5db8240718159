"""Who is computed for next: all answers a token each, a part of one prompt beside them, and others in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol, TypeAlias

import msgspec

from nemotron_gguf.runner.engine.answering import Answering, Events
from nemotron_gguf.runner.engine.batch import Part, Row
from nemotron_gguf.runner.engine.context import Cancelled, Context, ContextFull
from nemotron_gguf.runner.engine.failures import failed
from nemotron_gguf.runner.engine.guessing import Guessing
from nemotron_gguf.runner.engine.held import Held
from nemotron_gguf.runner.engine.lookup import NOTHING, Guess
from nemotron_gguf.runner.engine.pace import GAP, Pace, next_parts
from nemotron_gguf.runner.engine.queue import Queue
from nemotron_gguf.runner.engine.sequences import Sequences
from nemotron_gguf.runner.events import FinishReason, PromptProgress
from nemotron_gguf.runner.process.channel import ChannelClosed

Send: TypeAlias = Callable[[int, msgspec.Struct], object]
"""Takes a task's number and a piece of its reply."""


class Words(Protocol):
    """What has been said about tasks by their number."""

    cancelled: set[int]
    thought_enough: set[int]


class Scheduler:
    """All answers of a context: waiting, being read, being given. One thread calls it."""

    def __init__(self, context: Context, sequences: Sequences, words: Words, send: Send, max_gap: float = GAP) -> None:
        self.context, self.sequences, self.words, self.send = context, sequences, words, send
        self.pace, self.guessing = Pace(context.step, max_gap), Guessing(context, sequences)
        self.queue = Queue(sequences)
        self.running: list[Answering] = []

    @property
    def is_active(self) -> bool:
        """Whether any answer is not over."""
        return bool(self.queue.waiting or self.running)

    def add(self, answer: Answering) -> None:
        """Take on an answer. Raises EngineBusyError where too many wait."""
        self.queue.add(answer)

    def step(self) -> None:
        """A token for each answer and a part of a prompt, at most; what comes of it is sent."""
        if self.words.cancelled:
            self._cancel()
        for answer, error in self.queue.prepare():
            self._fail(answer, error)
        if self.queue.waiting:
            self._admit()
        drawing = [one for one in self.running if not one.is_reading]
        if drawing:
            self._advance([one for one in drawing if len(one.pending) == 1])
            for answer in drawing:
                if len(answer.pending) > 1 and answer in self.running:
                    self._write(answer)
        if len(self.running) > len(drawing):
            self._read()

    def _cancel(self) -> None:
        """End what nobody wants any more."""
        for answer in [*self.queue.waiting, *self.running]:
            if answer.number in self.words.cancelled:
                self._finish(answer, "cancelled")

    def _admit(self) -> None:
        """Give places to those that wait, nobody before one that came earlier and has its prompt to itself."""
        ready = self.queue.ready()
        for answer in ready:
            if all(held.busy for held in self.sequences.all):
                break
            if self.queue.joins(answer, self.running):
                continue
            try:
                if not self._place(answer):
                    break
            except Exception as error:
                self._fail(answer, error)
        for answer in ready:
            if not answer.is_told and answer in self.queue.waiting:
                answer.is_told = True
                self._send(answer, [PromptProgress(0, len(answer.prompt))])

    def _place(self, answer: Answering) -> bool:
        """Give an answer a place, if there is room for its prompt beside those that are being given."""
        start = self.sequences.start_of(answer.prompt)
        shared = start.reach if isinstance(start.source, Held) and start.source.busy else 0
        needed = len(answer.prompt) + max(answer.task.room, 1) - shared
        if self.sequences.busy_cells() + needed > self.context.size and self.running:
            return False
        taken = self.sequences.take(answer.prompt)
        if taken is None:
            return False
        held, reach = taken
        held.task = answer.number
        self.sequences.note_turns(held, answer.ends)
        self.queue.remove(answer)
        self.running.append(answer)
        self._send(answer, answer.begin(held, reach))
        return True

    def _advance(self, answers: list[Answering]) -> None:
        """One token of each answer goes through the model, and the next is drawn."""
        while answers and not self._make_room(len(answers)):
            answers = [one for one in answers if one in self.running]
        if not answers:
            return
        is_alone = len(self.running) == 1
        guess = self.guessing.behind(answers[0]) if is_alone else NOTHING
        rows = [Row(one.pending[0], _place_of(one).number, len(_place_of(one).tokens)) for one in answers]
        rows += [Row(token, rows[0].sequence, rows[0].position + ahead) for ahead, token in enumerate(guess.tokens, 1)]
        begun = perf_counter()
        try:
            self.context.advance(rows)
        except Exception as error:
            for answer in answers:
                self._break(answer, error)
            return
        seconds = perf_counter() - begun
        if is_alone:
            self.guessing.computed(guess, seconds)
        if not guess.tokens:
            self.pace.stepped(seconds)
        for row, answer in enumerate(answers):
            self.sequences.read(_place_of(answer), answer.pending)
            self._draw(answer, row, guess)

    def _write(self, answer: Answering) -> None:
        """What the engine wrote in the model's place is read, and the next token is drawn."""
        held, tokens = _place_of(answer), answer.pending
        if not self._make_room(len(tokens), answer):
            return
        try:
            for begin in range(0, len(tokens), self.context.step):
                part = tokens[begin : begin + self.context.step]
                self.context.read(held.number, part, len(held.tokens))
                self.sequences.read(held, part)
        except Exception as error:
            self._break(answer, error)
            return
        self._draw(answer, -1)

    def _draw(self, answer: Answering, row: int, guess: Guess = NOTHING) -> None:
        try:
            for events in self.guessing.draws(answer, row, guess):
                self._send(answer, events)
        except ChannelClosed:
            raise
        except Exception as error:
            self._fail(answer, error)
            return
        if answer.reason:
            self._finish(answer, answer.reason)

    def _read(self) -> None:
        """A part of the prompt whose turn it is, and of others what fits beside it."""
        is_beside = any(not one.is_reading for one in self.running)
        reading = [one for one in self.running if one.is_reading]
        parts = next_parts(reading, self.pace.count(beside_answers=is_beside))
        if not self._make_room(sum(len(tokens) for _, tokens in parts), parts[0][0]):
            return
        begun = perf_counter()
        for answer, _ in parts:
            answer.last_read = begun
        try:
            self._compute(parts)
        except Cancelled:
            answer, _ = parts[0]
            self.sequences.recover(_place_of(answer))
            self._finish(answer, "cancelled")
            return
        except Exception as error:
            self._cannot_read([answer for answer, _ in parts], error)
            return
        if len(parts) == 1:
            self.pace.read(len(parts[0][1]), perf_counter() - begun)
        row = -1
        for answer, tokens in parts:
            row += len(tokens)
            self._took(answer, tokens, row)

    def _compute(self, parts: Sequence[tuple[Answering, list[int]]]) -> None:
        """They go through the model. One that is alone may be long, and can be stopped."""
        number = parts[0][0].number
        self.context.read_parts(
            [
                Part(tokens, _place_of(one).number, one.done, wanted=one.done + len(tokens) == len(one.prompt))
                for one, tokens in parts
            ],
            stopped=(lambda: number in self.words.cancelled) if len(parts) == 1 else None,
        )

    def _took(self, answer: Answering, part: list[int], row: int) -> None:
        """A part of its prompt is in memory; a checkpoint is kept where one is due."""
        held = _place_of(answer)
        self.sequences.read(held, part)
        end = answer.done + len(part)
        try:
            if end in answer.plan:
                self.sequences.mark(held)
            self._send(answer, answer.progress(end))
        except ChannelClosed:
            raise
        except Exception as error:
            self._fail(answer, error)
            return
        if not answer.is_reading and not answer.pending:
            self._draw(answer, row)

    def _make_room(self, n_tokens: int, wanted_by: Answering | None = None) -> bool:
        """See that so many tokens fit. False where somebody had to give way: then all is to be looked at again.

        First idle sequences do, then the latest of those whose prompts are being read, which begin again later; at last
        the longest answer ends.
        """
        if self.sequences.make_room(n_tokens):
            return True
        reading = [one for one in self.running if one.is_reading]
        if reading and not (len(self.running) == 1 and wanted_by):
            self._suspend(reading[-1])
        else:
            self._finish(max(self.running, key=lambda one: len(_place_of(one).tokens)), "length")
        return False

    def _cannot_read(self, answers: Sequence[Answering], error: Exception) -> None:
        """The end of one that was alone; of several nobody knows whose fault it was, and each begins again, alone."""
        if len(answers) == 1:
            self._break(answers[0], error)
            return
        for answer in reversed(answers):
            held, answer.alone = _place_of(answer), True
            self._suspend(answer)
            self.sequences.forget(held)

    def _suspend(self, answer: Answering) -> None:
        self.sequences.release(_place_of(answer))
        answer.suspend()
        self.running.remove(answer)
        self.queue.waiting.insert(0, answer)

    def _finish(self, answer: Answering, reason: FinishReason) -> None:
        """An answer is over: what is left of it is sent, its sequence is kept for what follows."""
        try:
            self._send(answer, answer.end(reason))
        finally:
            self._leave(answer)

    def _fail(self, answer: Answering, error: Exception) -> None:
        """An answer that fails is the end of it alone."""
        if isinstance(error, ChannelClosed):
            raise error
        self._leave(answer)
        self.send(answer.number, failed(error))

    def _break(self, answer: Answering, error: Exception) -> None:
        """A computation failed: what its sequence holds is not known any more."""
        held = answer.held
        if isinstance(error, ContextFull):  # the memory is as it was, and our count of it was wrong
            self._finish(answer, "length")
            return
        self._fail(answer, error)
        if held:
            self.sequences.forget(held)

    def _leave(self, answer: Answering) -> None:
        if answer.held:
            self.sequences.release(answer.held)
        if answer in self.running:
            self.running.remove(answer)
        self.queue.remove(answer)
        answer.sampler.close()

    def _send(self, answer: Answering, events: Events) -> None:
        for event in events:
            self.send(answer.number, event)


def _place_of(answer: Answering) -> Held:
    assert answer.held is not None
    return answer.held
