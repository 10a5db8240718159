"""Logits of a reference, read chunk by chunk or written: this project's form, with or without the output matrix, or
llama-perplexity's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models import llama_logits, reference_logits
from nemotron_gguf.models.llama_logits import LlamaLogitsReader, decode
from nemotron_gguf.models.reference_logits import LogitsReader
from nemotron_gguf.runner.engine.output_matrix import InputTaker, OutputProduct
from nemotron_gguf.runner.errors import OtherBitsError, RunnerError
from nemotron_gguf.runner.process.messages import Score

Logits: TypeAlias = npt.NDArray[np.float32]
Slices: TypeAlias = Callable[[slice], Logits]


class Source(Protocol):
    """`count` rows of a chunk from the `begin`-th on, by slices of these."""

    def rows(self, chunk: int, begin: int, count: int) -> Slices:
        """Asked by one thread; the slices by several."""

    def close(self) -> None:
        """Close what is open."""


def open_source(llama: Any, task: Score, n_vocab: int) -> Source:
    """What a task compares with. Raises ModelError for a file that is none, RunnerError for another vocabulary's."""
    if not task.reference:
        return Nothing()
    path = Path(os.fsdecode(task.reference))
    reader = LlamaLogitsReader(path) if task.llama_format else LogitsReader(path)
    if reader.layout.n_vocab != n_vocab:
        raise RunnerError(
            f"{path} has logits of {reader.layout.n_vocab} tokens, the file's vocabulary has {n_vocab}; compare files"
            " of the same model"
        )
    if isinstance(reader, LlamaLogitsReader):
        return LlamaSource(reader)
    product = OutputProduct(llama, task.matrix, task.placement.threads) if task.matrix else None
    return ExactSource(reader, product)


class Nothing:
    """No reference."""

    def rows(self, chunk: int, begin: int, count: int) -> Slices:  # noqa: ARG002 - there are none
        """No rows."""
        return lambda _rows: np.empty((0, 0), np.float32)

    def close(self) -> None:
        """Nothing is open."""


class ExactSource:
    """Logits from a file, or from the inputs of the output matrix in it."""

    def __init__(self, reader: LogitsReader, product: OutputProduct | None) -> None:
        self._reader, self._product = reader, product
        self._last: tuple[int, Logits] | None = None

    def rows(self, chunk: int, begin: int, count: int) -> Slices:
        """Float32 logits, as the model gave them; no more of them are computed than were asked for."""
        if self._last is None or self._last[0] != chunk:
            self._last = chunk, self._reader.chunk(chunk)
        found = self._last[1][begin : begin + count]
        logits = self._product.logits(found) if self._product else found
        return lambda rows: logits[rows]

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
        if self._product:
            self._product.close()


class LlamaSource:
    """ln p in 16 bits from a file of llama-perplexity's."""

    def __init__(self, reader: LlamaLogitsReader) -> None:
        self._reader = reader

    def rows(self, chunk: int, begin: int, count: int) -> Slices:
        """Float32, decoded by the thread that asks."""
        found = self._reader.chunk(chunk)[begin : begin + count]
        return lambda rows: decode(found[rows], self._reader.layout.n_vocab)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class Target:
    """Chunks of logits are appended to a file whose beginning is there."""

    def __init__(self, llama: Any, task: Score) -> None:
        self._file = Path(os.fsdecode(task.target)).open("ab")  # noqa: SIM115 - `close` does
        self._append = llama_logits.append if task.llama_format else reference_logits.append
        self.taker = InputTaker(llama) if task.matrix else None
        self._product = OutputProduct(llama, task.matrix, task.placement.threads) if task.matrix else None
        self._parts: dict[int, list[Logits]] = {}
        self._step: tuple[Logits, dict[int, int]] = np.empty((0, 0), np.float32), {}

    def take_in(self, chunk: int, logits: Logits, *, lasting: bool) -> None:
        """More rows of a chunk that is under way; `lasting`: they are good until `keep`, else until the next step.

        Raises OtherBitsError where these cannot be had from the inputs of the output matrix, bit for bit.
        """
        rows = self._inputs(logits) if self._product else logits if lasting else logits.copy()
        self._parts.setdefault(chunk, []).append(rows)

    def keep(self) -> None:
        """Append the chunks that are under way, which are whole now."""
        for _, parts in sorted(self._parts.items()):
            self._append(self._file, parts[0] if len(parts) == 1 else np.concatenate(parts))
        self._parts.clear()
        self._file.flush()

    def _inputs(self, logits: Logits) -> Logits:
        """Those of the step's inputs that give these logits, in their order."""
        assert self._product
        assert self.taker
        taken = self.taker.take()
        if taken is not None and taken.shape[1] == self._product.matrix.n_columns:
            self._step = taken, _places(self._product.logits(taken))
        inputs, places = self._step
        found = [places.get(hash(row.tobytes()), -1) for row in logits]
        if -1 in found or not _same(self._product.logits(inputs[found]), logits):
            raise OtherBitsError("the output matrix alone gives other bits than the model")
        return inputs[found]

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._product:
            self._product.close()


def _places(computed: Logits) -> dict[int, int]:
    """Where each row is, by its hash: libllama may have them in another order."""
    return {hash(row.tobytes()): index for index, row in enumerate(computed)}


def _same(ours: Logits, theirs: Logits) -> bool:
    return bool(np.array_equal(ours.view(np.uint32), np.ascontiguousarray(theirs).view(np.uint32)))
