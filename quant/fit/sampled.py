"""What each type does to the weights of a class: the error of sampled rows, weighted by importance.

A few rows of a few tensors tell the error of a type to some percent: rows of a matrix are alike. Over the network only
those rows are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.cast import PLAIN, Cast, to_float32
from nemotron_gguf.convert.plan import RowSource, TensorPlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.imatrix import Imatrix, ImatrixEntry
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.encode import numbers
from nemotron_gguf.quant.ggml_base import NEEDS_IMPORTANCE, as_float32, dequantize_rows, quantize_rows

TENSORS, PLACES, ROWS = 3, 4, 2  # of a cell; of a tensor; side by side at a place

_Floats = npt.NDArray[np.float32]

Report = Callable[[int, int], None]
"""Hears how many are done, and of how many."""


def _silent(done: int, total: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Sample:
    """Rows of one matrix `(n, n_per_row) float32`, and what each column weighs `(n_per_row,)`, None for all alike."""

    values: _Floats
    importance: _Floats | None


def sample(
    tensors: Mapping[str, TensorPlan],
    cells: Mapping[Cell, Sequence[str]],
    imatrix: Imatrix | None,
    report: Report = _silent,
) -> dict[Cell, list[Sample]]:
    """Read some rows of each cell; `report` hears of tensors done and in all."""
    wanted = [(cell, name) for cell, names in cells.items() for name in _spread(names, TENSORS)]
    found: dict[Cell, list[Sample]] = {cell: [] for cell in cells}
    for done, (cell, name) in enumerate(wanted):
        report(done, len(wanted))
        entry = imatrix.entries.get(name) if imatrix else None
        found[cell] += _samples(tensors[name], entry)
    report(len(wanted), len(wanted))
    return found


def relative_errors(
    samples: Mapping[Cell, Sequence[Sample]],
    types: Iterable[GGMLType],
    report: Report = _silent,
) -> dict[tuple[Cell, GGMLType], float]:
    """Squared error of the weights as a part of their squares, columns weighted by importance; absent where a type
    needs importance that is not there, or where all the rows are zero."""
    jobs = [(cell, kind) for cell in samples for kind in types]
    found: dict[tuple[Cell, GGMLType], float] = {}
    with ThreadPoolExecutor() as threads:
        results = threads.map(lambda job: _error(samples[job[0]], job[1]), jobs)
        for done, (job, error) in enumerate(zip(jobs, results, strict=True), start=1):
            if error is not None:
                found[job] = error
            report(done, len(jobs))
    return found


def _spread(items: Sequence[str], count: int) -> list[str]:
    """At most `count` of the items, evenly apart."""
    return [items[(2 * n + 1) * len(items) // (2 * count)] for n in range(count)] if len(items) > count else [*items]


def _samples(tensor: TensorPlan, entry: ImatrixEntry | None) -> Iterable[Sample]:
    """Rows from places evenly apart, each place in one matrix of those that are stacked."""
    per_matrix = tensor.shape[-2]
    for place in range(PLACES):
        row = (2 * place + 1) * tensor.n_rows // (2 * PLACES)
        matrix = row // per_matrix
        row = min(row, (matrix + 1) * per_matrix - ROWS) if per_matrix >= ROWS else matrix * per_matrix
        values = _rows(tensor, row, min(row + ROWS, (matrix + 1) * per_matrix))
        weights = entry.read(matrix * tensor.n_per_row, (matrix + 1) * tensor.n_per_row) if entry else None
        yield Sample(values, weights)


def _rows(tensor: TensorPlan, first: int, last: int) -> _Floats:
    """Rows as a plain conversion would store them; `first` and `last` are in one matrix, but not always one source."""
    pieces = []
    for source, low, high in _sources(tensor.sources, first, last):
        rows = source.read(low, high)
        if tensor.transform is None and source.type not in PLAIN:
            pieces.append(as_float32(numbers(rows, source.type, tensor.n_per_row)))
            continue
        values = to_float32(rows, source.type)
        pieces.append(tensor.transform(values) if tensor.transform else values)
    return np.concatenate(pieces)


def _sources(sources: Sequence[RowSource], first: int, last: int) -> Iterable[tuple[RowSource, int, int]]:
    start = 0
    for source in sources:
        low, high = max(first - start, 0), min(last - start, source.n_rows)
        if low < high:
            yield source, low, high
        start += source.n_rows


def _error(samples: Sequence[Sample], kind: GGMLType) -> float | None:
    lost = total = 0.0
    for one in samples:
        if kind in NEEDS_IMPORTANCE and one.importance is None:
            return None
        back = _there_and_back(kind, one)
        weights = 1.0 if one.importance is None else one.importance.astype(np.float64)
        lost += float((((one.values - back).astype(np.float64) ** 2) * weights).sum())
        total += float(((one.values.astype(np.float64) ** 2) * weights).sum())
    return lost / total if total else None


def _there_and_back(kind: GGMLType, one: Sample) -> _Floats:
    """The rows as a file of that type gives them back; filled up to its block with zeros, which weigh nothing."""
    n_per_row = one.values.shape[1]
    more = -n_per_row % kind.block_size
    values = np.pad(one.values, ((0, 0), (0, more)))
    importance = None if one.importance is None else np.pad(one.importance, (0, more))
    if kind in PLAIN:
        rows = Cast(kind).encode(np.ascontiguousarray(values).view(np.uint8), GGMLType.F32, values.shape[1], 0)
        return to_float32(rows, kind)[:, :n_per_row]
    blocks = quantize_rows(kind, values, importance)
    return dequantize_rows(kind, blocks, values.shape[1])[:, :n_per_row]
