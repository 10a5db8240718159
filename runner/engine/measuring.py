"""A file is loaded to be measured: texts become its tokens, chunks of them go through it several at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.engine.library import failure, forget_failures, library
from nemotron_gguf.runner.engine.loading import context_params, load_model, model_params, new_context, start_load
from nemotron_gguf.runner.engine.vocabulary import Vocabulary
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.measure.chunks import Tokens
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.messages import Collect, Loading, Measurement, Score, TextTokens

Steps: TypeAlias = Generator[Sequence[msgspec.Struct], None, None]
Logits: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """A task under way: whether somebody cancelled it, and how to reply before its next step is over."""

    cancelled: Callable[[], bool]
    reply: Callable[[msgspec.Struct], None]

    def loading(self, share: float) -> bool:
        """Tell how much of the file is loaded; whether to go on."""
        self.reply(Loading(share))
        return not self.cancelled()


def measure(task: Measurement, job: Job) -> Steps:
    """The steps of a measurement: replies after each, the last of them `Measured`. Raises RunnerError."""
    if isinstance(task, Score):
        from nemotron_gguf.runner.engine.scoring import score

        return score(task, job)
    if isinstance(task, Collect):
        from nemotron_gguf.runner.engine.collecting import collect

        return collect(task, job)
    raise AssertionError(task)


def read_texts(path: str, texts: Sequence[str], special: bool) -> TextTokens:
    """Texts by the vocabulary of a file, of which nothing else is loaded."""
    llama = library()
    params = model_params(llama, Placement(ctx_size=0, threads=1))
    params.vocab_only = True
    model = start_load(llama, path, params)
    if not model:
        raise RunnerError(f"llama.cpp cannot read the vocabulary of {path}: {failure('it gave no reason')}")
    try:
        vocabulary = Vocabulary(llama, model)
        ids = tuple(np.array(vocabulary.read(text, special), np.int32).tobytes() for text in texts)
        return TextTokens(ids, -1 if vocabulary.bos is None else vocabulary.bos, vocabulary.size)
    finally:
        llama.llama_model_free(model)


class Cancelled(Exception):  # noqa: N818 - somebody's wish is no error
    """The measurement was stopped in the middle of a chunk."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model says behind positions `begin`, `begin` + 1, … of a chunk: `logits` is `(n, n_vocab) float32`.

    The memory is libllama's, and good until the next step.
    """

    chunk: int
    begin: int
    logits: Logits


class MeasuredModel:
    """A model and a context for as many chunks at a time as its placement has sequences; a context manager."""

    def __init__(self, path: str, placement: Placement, job: Job, watch: Any = None) -> None:
        """Load a file that has passed the preflight.

        `watch`: a `ggml_backend_sched_eval_callback` that sees every operation. Raises RunnerError where the file
        cannot be loaded so.
        """
        self.llama, self.job, self.watch = library(), job, watch  # the callback lives as long as the context
        self.parallel, self.step = placement.parallel, placement.batch // placement.parallel
        self.handle = load_model(self.llama, Path(path), placement, job.loading)
        self.context = 0
        try:
            self.n_vocab = Vocabulary(self.llama, self.handle).size
            params = context_params(self.llama, placement)
            params.n_outputs_max = 0  # any token of a batch may want its logits
            if watch is not None:
                params.cb_eval = watch
            self.context = new_context(self.llama, self.handle, placement, params)
        except BaseException:
            self.close()
            raise
        self._abort = self.llama.ggml_abort_callback(lambda _data: job.cancelled())
        self.llama.llama_set_abort_callback(self.context, self._abort, None)
        self.seconds = 0.0  # spent in libllama

    def run(self, tokens: Tokens, bos: int | None, first: int) -> Iterator[Outputs]:
        """Read chunks, `(n, n_ctx) int32` with `n` at most `parallel`, each in a memory of its own.

        Gives what the model says behind each position from `first` on. Raises Cancelled, and RunnerError where the
        computation fails.
        """
        assert len(tokens) <= self.parallel, tokens.shape
        if tokens.min() < 0 or tokens.max() >= self.n_vocab:
            raise RunnerError(f"the text has token {tokens.max()}, which is not in the vocabulary of {self.n_vocab}")
        if bos is not None:
            tokens = tokens.copy()
            tokens[:, 0] = bos
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        for begin in range(0, tokens.shape[1], self.step):
            part = tokens[:, begin : begin + self.step]
            self._decode(part, begin, first)
            yield from self._outputs(len(part), part.shape[1], begin, first)

    def _decode(self, part: Tokens, begin: int, first: int) -> None:
        n_seq, width = part.shape
        flat = np.ascontiguousarray(part.reshape(-1), np.int32)
        positions = np.tile(np.arange(begin, begin + width, dtype=np.int32), n_seq)
        sequences = np.repeat(np.arange(n_seq, dtype=np.int32), width)
        pointers = (sequences.ctypes.data + 4 * np.arange(flat.size)).astype(np.uintp)
        arrays = [flat, None, positions, np.ones(flat.size, np.int32), pointers, (positions >= first).astype(np.int8)]
        fields = [kind for _, kind in self.llama.llama_batch._fields_[1:]]
        given = [
            None if array is None else ctypes.cast(array.ctypes.data, kind)
            for array, kind in zip(arrays, fields, strict=True)
        ]
        forget_failures()
        begun = perf_counter()
        status = int(self.llama.llama_decode(self.context, self.llama.llama_batch(flat.size, *given)))
        self.llama.llama_synchronize(self.context)
        self.seconds += perf_counter() - begun
        if status == 2 or (status and self.job.cancelled()):
            raise Cancelled
        if status:
            why = failure(f"llama_decode returned {status}")
            raise RunnerError(f"the model could not compute ({why}); with less memory in use it may")

    def _outputs(self, n_seq: int, width: int, begin: int, first: int) -> Iterator[Outputs]:
        wanted = max(begin + width - max(begin, first), 0)
        if not wanted:
            return
        pointer = ctypes.cast(self.llama.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        logits = np.ctypeslib.as_array(pointer, (n_seq, wanted, self.n_vocab))
        for index in range(n_seq):
            yield Outputs(index, max(begin, first), logits[index])

    def close(self) -> None:
        """Free everything."""
        if self.context:
            self.llama.llama_free(self.context)
        self.llama.llama_model_free(self.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
