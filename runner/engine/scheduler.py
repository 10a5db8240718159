"""Who is computed for next: all answers a token each, a part of one prompt beside them, and others in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Protocol, TypeAlias

import msgspec

from nemotron_gguf.runner.engine.answering import Answering, Events
from nemotron_gguf.runner.engine.batch import Row
from nemotron_gguf.runner.engine.context import Cancelled, Context, ContextFull
from nemotron_gguf.runner.engine.failures import failed
from nemotron_gguf.runner.engine.guessing import Guessing
from nemotron_gguf.runner.engine.held import Held, common_length
from nemotron_gguf.runner.engine.lookup import NOTHING, Guess
from nemotron_gguf.runner.engine.pace import Pace
from nemotron_gguf.runner.engine.sequences import Sequences
from nemotron_gguf.runner.errors import EngineBusyError
from nemotron_gguf.runner.events import FinishReason, PromptProgress
from nemotron_gguf.runner.process.channel import ChannelClosed

QUEUE = 256  # answers that may wait
WORTH_WAITING = 64  # tokens that are read once for several prompts, rather than by each of them

Send: TypeAlias = Callable[[int, msgspec.Struct], object]
"""Takes a task's number and a piece of its reply."""


class Words(Protocol):
    """What has been said about tasks by their number."""

    cancelled: set[int]
    thought_enough: set[int]


class Scheduler:
    """All answers of a context: waiting, being read, being given. One thread calls it."""

    def __init__(self, context: Context, sequences: Sequences, words: Words, send: Send) -> None:
        self.context, self.sequences, self.words, self.send = context, sequences, words, send
        self.pace, self.guessing = Pace(context.step), Guessing(context, sequences)
        self.waiting: list[Answering] = []  # in the order in which they came
        self.running: list[Answering] = []
        self._unprepared: deque[tuple[Answering, Iterator[None]]] = deque()
        self._joined: dict[Answering, tuple[Answering, int]] = {}  # whose prompt, how far, an answer waits for

    @property
    def is_active(self) -> bool:
        """Whether any answer is not over."""
        return bool(self.waiting or self.running)

    def add(self, answer: Answering) -> None:
        """Take on an answer. Raises EngineBusyError where too many wait."""
        if len(self.waiting) >= QUEUE:
            raise EngineBusyError(f"{QUEUE} requests wait already, more are not taken; try again later")
        self.waiting.append(answer)
        self._unprepared.append((answer, answer.prepare()))

    def step(self) -> None:
        """A token for each answer and a part of a prompt, at most; what comes of it is sent."""
        if self.words.cancelled:
            self._cancel()
        if self._unprepared:
            self._prepare()
        if self.waiting:
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
        for answer in [*self.waiting, *self.running]:
            if answer.number in self.words.cancelled:
                self._finish(answer, "cancelled")

    def _prepare(self) -> None:
        """Take a part of a prompt apart."""
        answer, steps = self._unprepared[0]
        try:
            next(steps)
        except StopIteration:
            self._unprepared.popleft()
        except Exception as error:
            self._fail(answer, error)

    def _admit(self) -> None:
        """Give places to those that wait, nobody before one that came earlier and has its prompt to itself."""
        unprepared = {id(answer) for answer, _ in self._unprepared}
        ready = [one for one in self.waiting if id(one) not in unprepared]
        for answer in ready:
            if all(held.busy for held in self.sequences.all):
                break
            if self._joins(answer):
                continue
            try:
                if not self._place(answer):
                    break
            except Exception as error:
                self._fail(answer, error)
        for answer in ready:
            if not answer.is_told and answer in self.waiting:
                answer.is_told = True
                self._send(answer, [PromptProgress(0, len(answer.prompt))])

    def _joins(self, answer: Answering) -> bool:
        """Whether the beginning of its prompt is being read for another, which it had better wait for."""
        if answer in self._joined:
            other, common = self._joined[answer]
            if other in self.running and other.is_reading and other.done < common:
                return True
            del self._joined[answer]
        reach = -1
        for other in self.running:
            if not other.is_reading:
                continue
            common = common_length(other.prompt, answer.prompt[:-1])
            if reach < 0:
                reach = self.sequences.start_of(answer.prompt).reach
            if common > other.done and common - reach >= WORTH_WAITING:
                other.plan = sorted({*other.plan, common})
                self._joined[answer] = other, common
                return True
        return False

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
        self.waiting.remove(answer)
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
        """A part of the prompt whose turn it is."""
        answer = min((one for one in self.running if one.is_reading), key=lambda one: one.last_read)
        answer.last_read = perf_counter()
        is_beside = any(not one.is_reading for one in self.running)
        held, done = _place_of(answer), answer.done
        stop = next((place for place in answer.plan if place > done), len(answer.prompt))
        part = answer.prompt[done : min(done + self.pace.count(beside_answers=is_beside), stop)]
        if not self._make_room(len(part), answer):
            return
        end = done + len(part)
        try:
            self.context.read(
                held.number,
                part,
                done,
                wanted=end == len(answer.prompt),
                stopped=lambda: answer.number in self.words.cancelled,
            )
        except Cancelled:
            self.sequences.recover(held)
            self._finish(answer, "cancelled")
            return
        except Exception as error:
            self._break(answer, error)
            return
        self.pace.read(len(part), perf_counter() - answer.last_read)
        self._took(answer, part)

    def _took(self, answer: Answering, part: list[int]) -> None:
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
            self._draw(answer, -1)

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

    def _suspend(self, answer: Answering) -> None:
        self.sequences.release(_place_of(answer))
        answer.suspend()
        self.running.remove(answer)
        self.waiting.insert(0, answer)

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
        for group in (self.waiting, self.running):
            if answer in group:
                group.remove(answer)
        self._joined.pop(answer, None)
        self._unprepared = deque(pair for pair in self._unprepared if pair[0] is not answer)
        answer.sampler.close()

    def _send(self, answer: Answering, events: Events) -> None:
        for event in events:
            self.send(answer.number, event)


def _place_of(answer: Answering) -> Held:
    assert answer.held is not None
    return answer.held
