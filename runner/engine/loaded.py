"""A model in memory with its context, and all that is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nemotron_gguf.runner.engine.ahead import Ahead
from nemotron_gguf.runner.engine.answering import Answering
from nemotron_gguf.runner.engine.checkpoints import Checkpoint, Store
from nemotron_gguf.runner.engine.context import Context
from nemotron_gguf.runner.engine.library import library
from nemotron_gguf.runner.engine.loading import free_model, load_model
from nemotron_gguf.runner.engine.matchers import Matchers
from nemotron_gguf.runner.engine.pace import GAP
from nemotron_gguf.runner.engine.sampler import Sampler
from nemotron_gguf.runner.engine.saving import Post, Saving
from nemotron_gguf.runner.engine.scheduler import Scheduler, Send, Words
from nemotron_gguf.runner.engine.sequences import Sequences
from nemotron_gguf.runner.engine.vocabulary import Vocabulary
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.memory_messages import Anticipate, Occupancy
from nemotron_gguf.runner.process.messages import Generate


class LoadedModel:
    """What a file became: libllama's model, its vocabulary, and a context of as many sequences as was wished."""

    def __init__(
        self,
        path: str,
        placement: Placement,
        on_progress: Callable[[float], bool],
        words: Words,
        send: Send,
        post: Post,
        cache_ram: int = 0,
        max_gap: float = GAP,
    ) -> None:
        """Load a file that has passed the preflight; `on_progress` (share of 1) returns whether to go on.

        `words` are what has been said about tasks, `send` takes their replies, `post` has something done by the thread
        that owns the model; `cache_ram` and `max_gap` as in `Load`. Raises RunnerError where llama.cpp cannot load it.
        """
        self.llama, self.words = library(), words
        self.handle = load_model(self.llama, Path(path), placement, on_progress)
        try:
            self.vocabulary = Vocabulary(self.llama, self.handle)
            self.n_ctx_train = int(self.llama.llama_model_n_ctx_train(self.handle))
            self.context = Context(self.llama, self.handle, placement)
        except BaseException:
            free_model(self.llama, self.handle)
            raise
        self.matchers = Matchers(self.vocabulary)
        self.store = Store(cache_ram)
        self.sequences = Sequences(self.context, self.store)
        self.scheduler = Scheduler(self.context, self.sequences, words, send, max_gap)
        self.saving = Saving(self.sequences, self.vocabulary, send, post)
        self.ahead = Ahead(self.sequences, self.vocabulary)

    def generate(self, number: int, task: Generate) -> None:
        """Take on an answer, whose events are sent as `step` makes them. Raises RunnerError."""
        if task.grammar is not None and task.ignore_end:
            raise RunnerError("an answer in a form of its own ends where the form does; leave one of both wishes out")
        sampler = Sampler(self.llama, task.sampling, self.vocabulary, self.n_ctx_train)
        try:
            answer = Answering(
                task,
                self.vocabulary,
                sampler,
                self.context,
                number=number,
                matchers=self.matchers,
                ended_thinking=lambda: number in self.words.thought_enough,
            )
            self.scheduler.add(answer)
        except BaseException:
            sampler.close()
            raise

    def anticipate(self, task: Anticipate) -> None:
        """Take on the beginning of a prompt, to be read when there is nothing else to do."""
        self.ahead.add(task)

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self.scheduler.is_active or len(self.ahead) > 0

    def step(self) -> None:
        """A token for each answer and a part of a prompt; or, where nobody waits, a part of what may come."""
        if self.scheduler.is_active:
            self.scheduler.step()
        elif len(self.ahead):
            self.ahead.step()

    def occupancy(self) -> Occupancy:
        """How busy it is, and what is in memory."""
        running, kept = self.scheduler.running, list(self.store)
        reading = sum(one.is_reading for one in running)
        checkpoints = sum(isinstance(one, Checkpoint) for one in kept)
        return Occupancy(
            waiting=len(self.scheduler.queue.waiting),
            reading=reading,
            answering=len(running) - reading,
            ahead=len(self.ahead),
            sequences=len(self.sequences.all),
            idle=sum(not one.busy for one in self.sequences.all),
            tokens=self.sequences.cells.taken,
            context_size=self.context.size,
            checkpoints=checkpoints,
            parked=len(kept) - checkpoints,
            kept_bytes=self.store.used,
            kept_limit=self.store.limit,
        )

    def close(self) -> None:
        """Free everything."""
        self.context.close()
        free_model(self.llama, self.handle)
