"""Files are measured: a text becomes chunks, a reference's logits are kept in a file, and others compared with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from nemotron_gguf.models import llama_logits, reference_logits
from nemotron_gguf.models.gguf_parts import read_parts
from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.llama_logits import LlamaLogits, read_llama_logits
from nemotron_gguf.models.reference_logits import Layout
from nemotron_gguf.models.token_scores import ScoresFile, Table
from nemotron_gguf.runner.errors import OtherBitsError, RunnerError
from nemotron_gguf.runner.measure.caches import begins_with, check_room, give_name, kept, part_of, usable
from nemotron_gguf.runner.measure.chunks import Chunks, cut
from nemotron_gguf.runner.measure.evaluation import Evaluation, Material, Reference
from nemotron_gguf.runner.measure.identity import model_of, setting_of, text_of, vocabulary_of
from nemotron_gguf.runner.measure.texts import Text
from nemotron_gguf.runner.measure.values import COLUMNS, unpack
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.preflight.check import inspect_model
from nemotron_gguf.runner.process.client import Client
from nemotron_gguf.runner.process.messages import ChunkScored, Measured, OutputMatrix, Score
from nemotron_gguf.runner.settings import Settings
from nemotron_gguf.runner.setup import set_up

SMALLER = 4  # times at least, to be worth another computation
Report = Callable[[int, int], object]
"""Told how many chunks are done, and of how many."""


class Measurer:
    """One engine for many files, one after the other; a context manager. An evaluation loads its file and frees it."""

    def __init__(
        self, window: Window | None = None, settings: Settings | None = None, *, verbose: bool = False
    ) -> None:
        """Start the engine's process, for chunks that go through models as `window` says.

        On the processor alone, or with `settings` where these wish it and it fits.
        """
        self.window, self.settings = window or Window(), settings
        self.engine = Client(verbose=verbose)

    def read(self, path: Path, texts: Sequence[str | Text], chunks: int | None = None) -> Material:
        """Texts in chunks of the vocabulary of a file, the first so many or all; several are mixed evenly.

        Raises ModelError, RunnerError.
        """
        file = inspect_model(path)
        asked = [Text("", text) if isinstance(text, str) else text for text in texts]
        found = [self.engine.read_texts(file.path, [text.text], text.special) for text in asked]
        assert found, "a text to measure on"
        tokens = [np.frombuffer(ids, np.int32) for read in found for ids in read.texts]
        whole = cut(tokens, self.window.n_ctx, None if found[0].bos < 0 else found[0].bos)
        return Material(whole.first(chunks), found[0].n_vocab, vocabulary_of(file))

    def evaluate(
        self,
        path: Path,
        against: Reference | Material,
        *,
        keep: Path | None = None,
        report: Report | None = None,
    ) -> Evaluation:
        """Run a file over a text and score it, against a reference or alone.

        `keep`: a file for the scores of each token (`models.token_scores`), which is used again where it is of the same
        file, text, reference and setting, and gone on with where it is not whole. Raises ModelError, RunnerError.
        """
        file = inspect_model(path)
        reference = against if isinstance(against, Reference) else None
        material = reference.material if reference else against
        assert isinstance(material, Material)
        check_vocabulary(file, material)
        task = self._task(file, material)
        if reference:
            about = {"llama_format": reference.llama_format, "matrix": reference.matrix}
            task = changed(task, reference=os.fsencode(reference.path), **about)
        identity = self._identity(file, material) | {"text": text_of(material.chunks)}
        identity |= {"reference": str(dict(reference.identity))} if reference else {}
        table = Table(material.chunks.count, material.n_rows, COLUMNS, identity)
        with kept(keep, table) as scores:
            done, parts = (scores.done, [scores.data]) if scores else (0, [])
            over = Measured(True, 0.0, 0.0)
            if done < table.n_chunks:
                over = self._run(changed(task, first_chunk=done), table.n_chunks, parts, scores, report)
        values = unpack(b"".join(parts))
        n_tokens = (table.n_chunks - done) * material.chunks.n_ctx
        n_weights = sum(tensor.n_elements for tensor in file.tensors)
        compared = reference is not None
        return Evaluation(path, file.file_size, n_weights, values, compared, n_tokens, over.model_seconds, over.seconds)

    def reference(
        self,
        path: Path,
        material: Material,
        cache: Path,
        *,
        force: bool = False,
        announce: Callable[[int], object] | None = None,
        report: Report | None = None,
    ) -> Reference:
        """The logits of a file for a text, from `cache` or computed into it, exact to the bit.

        Kept as inputs of the output matrix, from which the engine computes them again, where it has seen that the bits
        are the same. `announce` is told the bytes before they are computed. Raises RunnerError for a cache that
        belongs to something else (`force` replaces it) and where there is no room on the disk.
        """
        file = inspect_model(path)
        check_vocabulary(file, material)
        identity, task = self._identity(file, material), self._task(file, material)
        matrix = output_matrix(file, task.placement)
        made = Layout(material.n_rows, material.n_vocab, material.n_vocab, material.chunks.tokens, identity)
        found = usable(cache, made, force)
        if found is None and matrix:
            found = replace(made, n_columns=matrix.n_columns)
            try:
                self._make(changed(task, matrix=matrix), found, made, cache, announce, report)
            except OtherBitsError:
                found = None
        if found is None:
            found = made
            self._make(task, found, made, cache, announce, report)
        compact = found.n_columns != found.n_vocab
        return Reference(cache, material, file.path.name, identity, matrix=matrix if compact else None)

    def _make(
        self,
        task: Score,
        layout: Layout,
        plain: Layout,
        cache: Path,
        announce: Callable[[int], object] | None,
        report: Report | None,
    ) -> None:
        """Compute a reference's logits into a file of that layout; go on with one that is `plain` only as that."""
        part = part_of(cache)
        if layout is not plain and part.exists() and begins_with(part, plain.head):
            raise OtherBitsError("an earlier run found that the bits are others")
        check_room(part, layout.file_size)
        if announce:
            announce(layout.file_size)
        self._write(changed(task, first_chunk=reference_logits.begin(part, layout)), part, cache, report)

    def llama_reference(
        self,
        path: Path,
        material: Material,
        cache: Path,
        *,
        force: bool = False,
        announce: Callable[[int], object] | None = None,
        report: Report | None = None,
    ) -> Reference:
        """The same in llama-perplexity's form, which rounds to 16 bits and does not say of which file it is.

        One that is there is used if it is of the same text; `force` replaces it.
        """
        if cache.exists() and not force:
            found = self.read_llama_reference(cache, material.chunks.bos)
            if not np.array_equal(found.material.chunks.tokens, material.chunks.tokens):
                raise RunnerError(f"{cache} is of another text; name another --cache, or --force to replace it")
            return found
        file = inspect_model(path)
        check_vocabulary(file, material)
        layout, part = LlamaLogits(material.n_vocab, material.chunks.tokens), part_of(cache)
        check_room(part, layout.file_size)
        if announce:
            announce(layout.file_size)
        part.unlink(missing_ok=True)  # which file an unfinished one is of, it does not say either
        llama_logits.begin(part, layout)
        self._write(changed(self._task(file, material), llama_format=True), part, cache, report)
        return self.read_llama_reference(cache, material.chunks.bos)

    def read_llama_reference(self, path: Path, bos: int | None) -> Reference:
        """A file that llama-perplexity wrote, or this did: it says itself which tokens it is of.

        Raises ModelError for a file that is none.
        """
        found = read_llama_logits(path)
        material = Material(Chunks(found.tokens, bos), found.n_vocab, "")
        return Reference(path, material, path.name, {"llama.cpp": str(path)}, llama_format=True)

    def _place(self, file: GGUFFile, material: Material) -> Placement:
        """Where a file goes. Raises RunnerError where that does not fit."""
        wanted = self.window.for_vocabulary(material.n_vocab).placement()
        if self.settings is None:
            return wanted
        asked = replace(self.settings, ctx_size=wanted.ctx_size, parallel=wanted.parallel, lookup=0)
        found = set_up(file, asked, self.engine).plan.placement
        found = replace(found, ctx_size=wanted.ctx_size, batch=wanted.batch, ubatch=wanted.ubatch)
        return replace(found, kv_unified=wanted.kv_unified)

    def _task(self, file: GGUFFile, material: Material) -> Score:
        chunks = material.chunks
        tokens = np.ascontiguousarray(chunks.tokens, "<i4").tobytes()
        bos = -1 if chunks.bos is None else chunks.bos
        return Score(os.fsencode(file.path), self._place(file, material), tokens, chunks.n_ctx, bos)

    def _identity(self, file: GGUFFile, material: Material) -> dict[str, str]:
        start = str(material.chunks.bos)
        return {
            "file": model_of(file),
            "setting": setting_of(self._place(file, material)),
            "beginning of chunks": start,
        }

    def _write(self, task: Score, part: Path, cache: Path, report: Report | None) -> None:
        """Compute a reference's logits; they get their name when all are there, and go on later where they are not."""
        total = len(task.tokens) // (4 * task.n_ctx)
        if task.first_chunk < total:
            self._run(changed(task, target=os.fsencode(part)), total, [], None, report)
        give_name(part, cache)

    def _run(
        self, task: Score, total: int, parts: list[bytes], scores: ScoresFile | None, report: Report | None
    ) -> Measured:
        """Take in what the engine finds, chunk by chunk."""
        if report:
            report(task.first_chunk, total)
        for body in self.engine.measure(task):
            if isinstance(body, ChunkScored):
                parts.append(body.values)
                if scores:
                    scores.append(body.values)
                if report:
                    report(body.chunk + 1, total)
            elif isinstance(body, Measured):
                return body
        raise AssertionError("a measurement ends in Measured")

    def close(self) -> None:
        """End the engine's process."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_vocabulary(file: GGUFFile, material: Material) -> None:
    """Raises RunnerError for a file whose tokens are others than the text's."""
    if material.vocabulary and vocabulary_of(file) != material.vocabulary:
        raise RunnerError(f"{file.path} has another vocabulary than the reference; compare files of the same model")


def output_matrix(file: GGUFFile, place: Placement) -> OutputMatrix | None:
    """A file's last matrix, where logits are the product with it on the processor and much larger than its inputs."""
    if place.devices:
        return None
    names = ("output.weight", "token_embd.weight")  # the latter where a model has one matrix for both
    listed = {tensor.name: (part, tensor) for part in read_parts(file.path) for tensor in part.tensors}
    found = next((listed[name] for name in names if name in listed), None)
    if found is None or len(found[1].shape) != 2:
        return None
    part, tensor = found
    n_rows, n_columns = tensor.shape
    if n_columns * SMALLER > n_rows:
        return None
    return OutputMatrix(os.fsencode(part.path), tensor.offset, tensor.type.name, n_rows, n_columns)


def changed(task: Score, **changes: object) -> Score:
    """The task with other fields."""
    return msgspec.structs.replace(task, **changes)
