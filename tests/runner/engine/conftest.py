"""The engine's inside, in the test's own process: what tests of the process itself need not pay for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from nemotron_gguf.runner import Answer, AnyEvent, Done, Reasoning, Sampling
from nemotron_gguf.runner.engine.loaded import LoadedModel
from nemotron_gguf.runner.errors import BY_NAME
from nemotron_gguf.runner.placement.placement import FlashAttention, Placement
from nemotron_gguf.runner.process.messages import Failed, Generate

GREEDY = Sampling(temperature=0)


class Asked:
    """Numbers of tasks about which somebody is asked whether they shall end."""

    def __init__(self) -> None:
        self.questions: dict[int, Callable[[], bool]] = {}

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self.questions and self.questions[number]()

    def __bool__(self) -> bool:
        return any(question() for question in self.questions.values())


class Bare:
    """A loaded model and a short way to ask it."""

    def __init__(
        self,
        path: Path,
        ctx_size: int = 512,
        parallel: int = 1,
        cache_ram: int = 1 << 28,
        flash: FlashAttention = "off",
        lookup: int = 0,
    ) -> None:
        """Without flash attention, which on the processor adds up in 16 bits, so that the order of cells matters."""
        placement = Placement(
            ctx_size, threads=1, parallel=parallel, kv_unified=True, flash_attention=flash, lookup=lookup
        )
        self.cancelled: Any = Asked()
        self.thought_enough: Any = Asked()
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.sent: dict[int, list[Any]] = {}
        self.model = LoadedModel(
            str(path), placement, lambda _share: True, self, self._take, self.posted.put, cache_ram
        )
        self.vocabulary, self.context = self.model.vocabulary, self.model.context
        self.sequences, self.scheduler = self.model.sequences, self.model.scheduler
        self.numbers = count(1)

    def wait_for(self, number: int) -> Any:
        """The last reply to a task that a thread beside works on."""
        end = time.monotonic() + 20
        while not self.sent.get(number):
            assert time.monotonic() < end
            with contextlib.suppress(Empty):
                self.posted.get(timeout=0.02)()
        return self.sent[number][-1]

    def _take(self, number: int, event: Any) -> None:
        self.sent.setdefault(number, []).append(event)

    def clear(self) -> None:
        """Forget everything."""
        for number in list(self.sent):
            self.cancelled.questions[number] = lambda: True
        while self.model.scheduler.is_active:
            self.model.step()
        self.cancelled.questions.clear()
        self.sent.clear()
        self.sequences.clear()
        self.model.ahead.clear()

    @property
    def tokens(self) -> list[int]:
        """What the first sequence holds."""
        return self.sequences.all[0].tokens

    def begin(self, prompt: str | Sequence[int], sampling: Sampling = GREEDY, **wishes: Any) -> int:
        """An answer begins, under this number."""
        number = next(self.numbers)
        task = Generate(prompt if isinstance(prompt, str) else tuple(prompt), sampling, **wishes)
        self.sent[number] = []
        self.model.generate(number, task)
        return number

    def run(self) -> None:
        """Until nothing is left to be done."""
        while self.model.has_work:
            self.model.step()

    def read(self, tokens: Sequence[int]) -> None:
        """Bring a text into the first sequence."""
        self.clear()
        held = self.sequences.all[0]
        self.context.read(0, tokens, 0)
        self.sequences.read(held, tokens)

    def steps(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling = GREEDY,
        cancelled: Callable[[], bool] = lambda: False,
        enough: Callable[[], bool] = lambda: False,
        **wishes: Any,
    ) -> Iterator[list[AnyEvent]]:
        """The events of an answer, as they come."""
        number = self.begin(prompt, sampling, **wishes)
        self.cancelled.questions[number], self.thought_enough.questions[number] = cancelled, enough
        try:
            while not any(isinstance(event, Done | Failed) for event in self.sent[number]):
                before = len(self.sent[number])
                self.model.step()
                events = self.sent[number][before:]
                for event in events:
                    if isinstance(event, Failed):
                        raise BY_NAME[event.error](event.message)
                if events:
                    yield events
        finally:
            self.cancelled.questions.pop(number, None)
            self.thought_enough.questions.pop(number, None)

    def ask(self, prompt: str | Sequence[int], sampling: Sampling = GREEDY, **wishes: Any) -> tuple[str, str, Done]:
        """What was thought, what was said, and the end."""
        events = [event for step in self.steps(prompt, sampling, **wishes) for event in step]
        assert isinstance(events[-1], Done)
        thought = "".join(event.text for event in events if isinstance(event, Reasoning))
        return thought, "".join(event.text for event in events if isinstance(event, Answer)), events[-1]


@pytest.fixture(scope="package")
def bares() -> Iterator[Callable[..., Bare]]:
    """Loads models, and frees them at the end."""
    loaded: list[Bare] = []

    def load(path: Path, **options: Any) -> Bare:
        loaded.append(Bare(path, **options))
        return loaded[-1]

    yield load
    for bare in loaded:
        bare.model.close()


@pytest.fixture(scope="module")
def tiny_bare(bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]) -> Bare:
    return bares(tiny_gguf())


@pytest.fixture
def tiny(tiny_bare: Bare) -> Bare:
    tiny_bare.clear()
    return tiny_bare


@pytest.fixture(scope="module")
def demo(bares: Callable[..., Bare], demo_q8: Path) -> Bare:
    """A model that thinks and answers."""
    return bares(demo_q8, ctx_size=1024)
