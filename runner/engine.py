"""A loaded model that turns a prompt's tokens into an answer's tokens, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from nemotron_gguf.runner.context import Cancelled, Context, ContextFull
from nemotron_gguf.runner.errors import EngineBusyError, RunnerError
from nemotron_gguf.runner.library import failure, forget_failures, library
from nemotron_gguf.runner.sampler import Sampler
from nemotron_gguf.runner.settings import Sampling, Setup
from nemotron_gguf.runner.vocabulary import Vocabulary

FinishReason: TypeAlias = Literal["stop", "length", "cancelled"]
"""The model ended by itself; its tokens or the context were used up; somebody stopped it."""


@dataclass
class Progress:
    """How an answer came about; filled in while it is generated. Times in seconds."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0
    finish_reason: FinishReason = "cancelled"


class Engine:
    """One model and one context; a context manager. One answer at a time: a second caller gets EngineBusyError."""

    def __init__(self, path: Path, setup: Setup) -> None:
        """Load a file that has passed the preflight. Raises RunnerError where llama.cpp cannot load it."""
        self.llama, self.setup = library(), setup
        self.model = _load(self.llama, path, setup)
        try:
            self.vocabulary = Vocabulary(self.llama, self.model)
            self.context = Context(self.llama, self.model, setup, self.vocabulary.size)
        except BaseException:
            self.llama.llama_model_free(self.model)
            raise
        self._busy = threading.Lock()

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        max_tokens: int | None = None,
        *,
        progress: Progress | None = None,
        cancelled: threading.Event | None = None,
    ) -> Iterator[int]:
        """Token ids of an answer as they are drawn, without the one that ends it; at most `max_tokens`.

        What is in memory already is not read again. Setting `cancelled`, from any thread, stops the answer, also while
        its prompt is being read. Raises EngineBusyError while another answer is under way, and
        RunnerError for a prompt that does not fit or a computation that fails.
        """
        if not self._busy.acquire(blocking=False):
            raise EngineBusyError("the model is busy with another answer; try again when that is finished")
        try:
            if self.model is None:
                raise RunnerError("the model has been closed; open it again")
            self.context.cancelled = cancelled or threading.Event()
            yield from self._generate(prompt, sampling, max_tokens, progress or Progress())
        finally:
            self._busy.release()

    def _generate(
        self, prompt: Sequence[int], sampling: Sampling, max_tokens: int | None, progress: Progress
    ) -> Iterator[int]:
        context, start = self.context, perf_counter()
        progress.prompt_tokens = len(prompt)
        try:
            progress.cached_tokens = context.read(prompt)
        except Cancelled:
            return
        finally:
            progress.prompt_seconds = perf_counter() - start
        start = perf_counter()
        with Sampler(self.llama, sampling, self.vocabulary.size) as sampler:
            while not context.cancelled.is_set():
                token = sampler.draw(context.handle)
                progress.generation_seconds = perf_counter() - start
                if self.vocabulary.is_end(token):
                    progress.finish_reason = "stop"
                    return
                progress.generated_tokens += 1
                yield token
                if progress.generated_tokens == max_tokens or not self._extend(token):
                    progress.finish_reason = "length"
                    return

    def _extend(self, token: int) -> bool:
        """Read a drawn token; False where the context is full."""
        try:
            self.context.append([token])
        except ContextFull:
            return False
        return True

    def close(self) -> None:
        """Free the model and its memory, once the answer under way has stopped."""
        self.context.cancelled.set()
        with self._busy:
            if self.model is not None:
                self.context.close()
                self.llama.llama_model_free(self.model)
                self.model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load(llama: Any, path: Path, setup: Setup) -> Any:
    """The model's handle. Ctrl-C is heard while the file is being read."""
    params = llama.llama_model_default_params()
    params.n_gpu_layers = setup.n_gpu_layers
    interrupted = threading.Event()

    def go_on(_share: float, _data: object) -> bool:
        try:
            return not interrupted.is_set()
        except KeyboardInterrupt:
            interrupted.set()
            return False

    callback = llama.llama_progress_callback(go_on)
    params.progress_callback = callback
    forget_failures()
    model = llama.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), params)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if not model:
        raise RunnerError(f"llama.cpp cannot load {path}: {failure('it gave no reason')}")
    if llama.llama_model_has_encoder(model) or not llama.llama_model_has_decoder(model):
        llama.llama_model_free(model)
        raise RunnerError(f"{path} is no model that writes text by itself (it has an encoder); choose another")
    return model
