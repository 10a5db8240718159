"""A file's predictions of chunks, scored token by token, alone or against the logits of a reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from time import perf_counter

import numpy as np

from nemotron_gguf.runner.engine.library import library
from nemotron_gguf.runner.engine.measuring import Cancelled, Job, MeasuredModel, Steps
from nemotron_gguf.runner.engine.references import Slices, Target, open_source
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.measure.chunks import Tokens
from nemotron_gguf.runner.measure.values import Scorer, Values, pack, score_alone, score_logprobs
from nemotron_gguf.runner.measure.values import score as score_logits
from nemotron_gguf.runner.process.messages import ChunkScored, Measured, Score


def score(task: Score, job: Job) -> Steps:
    """The steps of a `Score` task, a group of chunks each."""
    begun, llama = perf_counter(), library()
    tokens = np.frombuffer(task.tokens, np.int32).reshape(-1, task.n_ctx)
    kind = score_alone if not task.reference else score_logprobs if task.llama_format else score_logits
    with ExitStack() as stack:
        target = stack.enter_context(closing(Target(llama, task))) if task.target else None
        watch = target.taker.callback if target and target.taker else None
        model = stack.enter_context(MeasuredModel(os.fsdecode(task.path), task.placement, job, watch))
        source = stack.enter_context(closing(open_source(llama, task, model.n_vocab)))
        scorer = stack.enter_context(Scorer(kind, task.placement.threads))
        group = Group(task, model, source.rows, scorer, target)
        for number in range(task.first_chunk, len(tokens), model.parallel):
            if job.cancelled():
                break
            try:
                yield list(group.run(tokens[number : number + model.parallel], number))
            except Cancelled:
                break
        yield [Measured(not job.cancelled(), model.seconds, perf_counter() - begun)]


class Group:
    """Some chunks that go through the model together."""

    def __init__(
        self,
        task: Score,
        model: MeasuredModel,
        rows: Callable[[int, int, int], Slices],
        scorer: Scorer,
        target: Target | None,
    ) -> None:
        self.model, self.rows, self.scorer, self.target = model, rows, scorer, target
        self.first = task.n_ctx // 2  # the model has read half a chunk before it is asked
        self.bos = None if task.bos < 0 else task.bos
        self.in_one_step = model.step >= task.n_ctx

    def run(self, tokens: Tokens, number: int) -> Iterator[ChunkScored]:
        """Run chunks, of which the first is `number`, score them, and keep their logits where they are wanted."""
        values: list[list[Values]] = [[] for _ in tokens]
        for out in self.model.run(tokens, self.bos, self.first):
            rows = out.logits[: tokens.shape[1] - 1 - out.begin]  # what follows the last token is not known
            if not len(rows):
                continue
            targets = tokens[out.chunk, out.begin + 1 : out.begin + 1 + len(rows)]
            reference = self.rows(number + out.chunk, out.begin - self.first, len(rows))
            values[out.chunk].append(self.scorer(rows, reference, targets))
            if self.target:
                self.target.take_in(out.chunk, rows, lasting=self.in_one_step)
        for index, found in enumerate(values):
            if not all(np.isfinite(part[:, 0]).all() for part in found):
                raise RunnerError(f"the model's logits in chunk {number + index} are not finite; verify the file")
        if self.target:
            self.target.keep()
        for index, found in enumerate(values):
            yield ChunkScored(number + index, pack(found))
