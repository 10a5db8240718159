"""Answers that wait: their prompts are taken apart, and some had better wait for another's prompt to be read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter

from nemotron_gguf.runner.engine.answering import Answering
from nemotron_gguf.runner.engine.held import common_length
from nemotron_gguf.runner.engine.sequences import Sequences
from nemotron_gguf.runner.errors import EngineBusyError

LONGEST = 256  # answers that may wait
WORTH_WAITING = 64  # tokens that are read once for several prompts, rather than by each of them
PREPARING = 0.02  # seconds at a time, while others wait for their tokens


class Queue:
    """Who waits, in the order in which they came."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences
        self.waiting: list[Answering] = []
        self._unprepared: deque[tuple[Answering, Iterator[None]]] = deque()
        self._joined: dict[Answering, tuple[Answering, int]] = {}  # whose prompt, how far, an answer waits for

    def add(self, answer: Answering) -> None:
        """One more. Raises EngineBusyError where too many wait."""
        if len(self.waiting) >= LONGEST:
            raise EngineBusyError(f"{LONGEST} requests wait already, more are not taken; try again later")
        self.waiting.append(answer)
        self._unprepared.append((answer, answer.prepare()))

    def remove(self, answer: Answering) -> None:
        """It need not wait any more."""
        if answer in self.waiting:
            self.waiting.remove(answer)
        self._joined.pop(answer, None)
        self._unprepared = deque(pair for pair in self._unprepared if pair[0] is not answer)

    def prepare(self) -> list[tuple[Answering, Exception]]:
        """Take prompts apart for a moment; those that cannot be answered, and why."""
        failed: list[tuple[Answering, Exception]] = []
        end = perf_counter() + PREPARING
        while self._unprepared:
            answer, steps = self._unprepared[0]
            try:
                next(steps)
            except StopIteration:
                self._unprepared.popleft()
            except Exception as error:
                self._unprepared.popleft()
                failed.append((answer, error))
            if perf_counter() > end:
                break
        return failed

    def ready(self) -> list[Answering]:
        """Those whose prompts are taken apart."""
        unprepared = {id(answer) for answer, _ in self._unprepared}
        return [one for one in self.waiting if id(one) not in unprepared]

    def joins(self, answer: Answering, running: Sequence[Answering]) -> bool:
        """Whether the beginning of its prompt is being read for another, which it had better wait for."""
        if answer in self._joined:
            other, common = self._joined[answer]
            if other in running and other.is_reading and other.done < common:
                return True
            del self._joined[answer]
        reach = -1
        for other in running:
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
