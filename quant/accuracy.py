"""What quantizing did to each tensor of a file: the error of sampled rows, by the very encoders that wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt

import numpy as np

from nemotron_gguf.convert.cast import to_float32
from nemotron_gguf.convert.plan import FilePlan, Rows, TensorPlan
from nemotron_gguf.convert.writer.chunks import Chunk, Wanted
from nemotron_gguf.convert.writer.run import resized
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.encode import Quantize, numbers
from nemotron_gguf.quant.ggml_base import as_float32

PLACES, ROWS = 8, 4  # of a tensor, evenly apart; rows side by side at a place
READS_AT_ONCE = 8

Report = Callable[[int, int, str], None]
"""Hears how many tensors are done, of how many, and the name of one."""


@dataclass(frozen=True)
class TensorError:
    """A tensor and its relative error: the root of the squared error over the squared weights, of `n_rows` rows.

    None where nothing was lost because the tensor is as the conversion stores it, or where all sampled rows are zero.
    """

    tensor: TensorPlan
    relative: float | None
    n_rows: int


def _silent(done: int, total: int, name: str) -> None:
    """Nobody listens."""


def tensor_errors(plan: FilePlan, report: Report = _silent) -> list[TensorError]:
    """The error of each tensor of a quantized plan, in the order of the file; reads a few rows of each.

    Errors are plain: columns are not weighted by importance. Raises the errors of reading the source.
    """
    found: list[TensorError] = []
    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="sample") as pool:
        for one in pool.map(_error, plan.tensors):
            found.append(one)
            report(len(found), len(plan.tensors), one.tensor.name)
    return found


def _error(tensor: TensorPlan) -> TensorError:
    encoder = tensor.encoder
    if not isinstance(encoder, Quantize):
        return TensorError(tensor, None, 0)
    lost = total = 0.0
    n_rows = 0
    for first, last in _places(sum(source.n_rows for source in tensor.sources)):
        rows, kind = _rows(tensor, first, last)
        if not len(rows):  # all of them were trimmed away
            continue
        place = tensor.place(first)
        stored = encoder.stored.encode(rows, kind, tensor.n_per_row, place)  # as a plain conversion would have them
        before = as_float32(numbers(stored, encoder.stored.type, tensor.n_per_row)).astype(np.float64)
        blocks = encoder.encode(rows, kind, tensor.n_per_row, place)
        after = as_float32(numbers(blocks, encoder.type, tensor.n_per_row))
        lost += float(((before - after) ** 2).sum())
        total += float((before**2).sum())
        n_rows += len(rows)
    return TensorError(tensor, sqrt(lost / total) if total else None, n_rows)


def _places(n_rows: int) -> Iterator[tuple[int, int]]:
    """Spans of rows, evenly apart; all rows where there are few."""
    if n_rows <= PLACES * ROWS:
        yield 0, n_rows
        return
    for place in range(PLACES):
        first = (2 * place + 1) * n_rows // (2 * PLACES) - ROWS // 2
        yield first, first + ROWS


def _rows(tensor: TensorPlan, first: int, last: int) -> tuple[Rows, GGMLType]:
    """Rows as they come to the encoder, and their type."""
    rows = Chunk(0, first, last, (Wanted(0, tensor, 0),)).read()
    kind = tensor.sources[0].type
    if tensor.transform is not None:
        values = np.ascontiguousarray(tensor.transform(to_float32(rows, kind)), dtype=np.float32)
        rows, kind = values.view(np.uint8), GGMLType.F32
    return (rows, kind) if tensor.resize is None else resized(tensor.resize, rows, kind, first)
