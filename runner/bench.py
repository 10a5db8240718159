"""How fast a model runs here: prompt and generation in tokens a second as llama-bench counts them, through the engine.

Unlike llama-bench this goes the way of an answer: tokens are drawn (the likeliest), turned into text, and sent to the
front, so it is what a person gets. The engine's own time is what of it was not spent in llama.cpp.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from nemotron_gguf.runner.errors import ContextOverflowError
from nemotron_gguf.runner.events import Done
from nemotron_gguf.runner.model import ChatModel
from nemotron_gguf.runner.process.messages import Generate
from nemotron_gguf.runner.sampling import Sampling

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured: `n_prompt` tokens read, or `n_gen` generated, behind `depth` tokens that are in memory."""

    n_prompt: int = 0
    n_gen: int = 0
    depth: int = 0

    @property
    def name(self) -> str:
        """As llama-bench calls it: pp512, tg128, tg128 @ d4096."""
        name = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{name} @ d{self.depth}" if self.depth else name

    @property
    def n_tokens(self) -> int:
        """Context that it takes."""
        return self.depth + max(self.n_prompt, 1) + self.n_gen + 1


@dataclass(frozen=True, slots=True)
class Result:
    """Tokens a second of each repetition; seconds of the engine's own for a generated token, 0 where none was."""

    measure: Measure
    speeds: tuple[float, ...]
    own_seconds: float

    @property
    def mean(self) -> float:
        """Tokens a second."""
        return fmean(self.speeds)

    @property
    def deviation(self) -> float:
        """Standard deviation of the repetitions, tokens a second."""
        return pstdev(self.speeds)


def run(
    model: ChatModel, measures: Sequence[Measure], repetitions: int, on_step: Callable[[str], object] | None = None
) -> Iterator[Result]:
    """Measure one after the other, after a warm-up.

    `on_step` is told what is being measured. Raises ContextOverflowError for a measure that the context cannot hold.
    """
    size = model.context_size
    for measure in measures:
        if measure.n_tokens > size:
            raise ContextOverflowError(
                f"{measure.name} takes {measure.n_tokens} tokens of context, there are {size}; give a larger --ctx-size"
            )
    bench = _Bench(model)
    bench.once(Measure(n_prompt=min(32, size // 2)))
    bench.once(Measure(n_gen=min(4, size // 2)))
    for measure in measures:
        speeds, own = [], []
        for index in range(repetitions):
            if on_step:
                on_step(f"{measure.name}, {index + 1} of {repetitions}")
            speed, seconds = bench.once(measure)
            speeds.append(speed)
            own.append(seconds)
        yield Result(measure, tuple(speeds), fmean(own))


class _Bench:
    """Random tokens through the engine."""

    def __init__(self, model: ChatModel) -> None:
        self.model, self.random = model, random.Random(0)

    def once(self, measure: Measure) -> tuple[float, float]:
        """Tokens a second, and the engine's own seconds a token."""
        before = self._tokens(measure.depth)
        if before:
            self._generate(before, 1)  # the one token that is drawn is not put into memory
        if measure.n_prompt:
            done = self._generate(before + self._tokens(measure.n_prompt), 1)
            return done.timings.prompt_per_second, 0.0
        # the first token is drawn from what the prompt left; each of those that count takes a computation
        done = self._generate(before + self._tokens(1), measure.n_gen + 1)
        times = done.timings
        return measure.n_gen / times.generation_seconds, (
            times.generation_seconds - times.decode_seconds
        ) / measure.n_gen

    def _tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(self.model.n_vocab) for _ in range(count))

    def _generate(self, prompt: tuple[int, ...], max_tokens: int) -> Done:
        form = self.model.template.format_of("")  # what is drawn is taken apart, as an answer is
        task = Generate(prompt, GREEDY, max_tokens, reasoning_budget=-1, format=form, ignore_end=True)
        *_, done = self.model.engine.generate(task)
        assert isinstance(done, Done)
        return done
