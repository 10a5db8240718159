"""Importance is collected: chunks go through a model, and what its products see is added up and kept on the disk."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, perf_counter

import numpy as np

from nemotron_gguf.models.imatrix import Partial, read_partial, save_partial
from nemotron_gguf.runner.engine.activations import Collector
from nemotron_gguf.runner.engine.library import library
from nemotron_gguf.runner.engine.measuring import Cancelled, Job, MeasuredModel, Steps
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.process.messages import Collect, Collected, Measured

_SHARE = 20  # of the time may go into saving


def collect(task: Collect, job: Job) -> Steps:
    """The steps of a `Collect` task, as many chunks each as go through the model together."""
    begun = perf_counter()
    llama = library()
    collector = Collector(llama, process_output=task.process_output)
    store = _Store(task, collector)
    tokens = np.frombuffer(task.tokens, np.int32).reshape(-1, task.n_ctx)
    bos = None if task.bos < 0 else task.bos
    watch = llama.ggml_backend_sched_eval_callback(collector.watch)
    with MeasuredModel(os.fsdecode(task.path), task.placement, job, watch) as model:
        done = store.restore()
        yield [Collected(done, collector.fewest)]
        while done < len(tokens) and not _is_enough(task, done, collector):
            group = tokens[done : done + model.parallel]
            try:
                for _ in model.run(
                    group, bos, 0
                ):  # where a token's logits are not wanted, the last layer leaves it out
                    pass
            except Cancelled:
                break
            collector.check()
            done += len(group)
            store.save_sometimes(done)
            yield [Collected(done, collector.fewest)]
        complete = not job.cancelled()
        if complete:
            store.save(done)
        yield [Measured(complete, model.seconds, perf_counter() - begun)]


def _is_enough(task: Collect, done: int, collector: Collector) -> bool:
    return task.until_covered is not None and done >= task.n_chunks and collector.fewest >= task.until_covered


class _Store:
    """Where the sums lie between two runs."""

    def __init__(self, task: Collect, collector: Collector) -> None:
        self.path, self.bound_to, self.collector = Path(os.fsdecode(task.partial)), task.bound_to, collector
        self.wait, self.last = task.save_every, monotonic()

    def restore(self) -> int:
        """Take up what an earlier run left, and say how many chunks that was."""
        if not self.path.exists():
            return 0
        partial = read_partial(self.path)
        if partial.bound_to != self.bound_to:
            raise RunnerError(f"{self.path} was collected from something else; remove it")
        for name, sums in partial.entries.items():
            self.collector.restore(name, sums)
        return partial.chunks_done

    def save_sometimes(self, done: int) -> None:
        """Save what a kill would cost, unless that was done a moment ago."""
        if monotonic() - self.last >= self.wait:
            self.save(done)

    def save(self, done: int) -> None:
        """Replace the file by one with all that was collected from `done` chunks."""
        begun = monotonic()
        save_partial(self.path, Partial(self.collector.entries, done, self.bound_to))
        self.last = monotonic()
        self.wait = max(self.wait, _SHARE * (self.last - begun)) if self.wait else 0.0
