"""How the work is cut: chunks of rows of one tensor, each read once and wanted by one or several files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nemotron_gguf.convert.plan import FilePlan, Rows, RowSource, TensorPlan

READ_WEIGHTS = 8 << 20  # weights read at a time: 16 MiB of BF16, a range that keeps a network busy


@dataclass(frozen=True)
class Wanted:
    """A file that wants a chunk: its place among the files, its plan of the tensor, the tensor's offset in it."""

    file: int
    plan: TensorPlan
    offset: int

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Offset and size, in bytes, that rows `first` up to `last` of the source have in the file."""
        row_bytes = self.plan.type.row_bytes(self.plan.n_per_row)
        begin, end = self.plan.place(first), self.plan.place(last)
        return self.offset + begin * row_bytes, (end - begin) * row_bytes


@dataclass(frozen=True)
class Chunk:
    """Rows `first` up to `last` of a tensor's sources; `number` is its place among all chunks of the run."""

    number: int
    first: int
    last: int
    wanted: tuple[Wanted, ...]

    @property
    def tensor(self) -> TensorPlan:
        """The plan of the tensor in the first file that wants it."""
        return self.wanted[0].plan

    @property
    def source_bytes(self) -> int:
        """Bytes that are read for it; a source whose rows lie otherwise than they are given says so."""
        source = self.tensor.sources[0]
        row_bytes: int = getattr(source, "stored_row_bytes", source.type.row_bytes(source.n_per_row))
        return (self.last - self.first) * row_bytes

    def read(self) -> Rows:
        """Its rows as they lie in the sources, which are stacked; all sources of a tensor are of one type."""
        pieces: list[Rows] = []
        start = 0
        for source in self.tensor.sources:
            low, high = max(self.first - start, 0), min(self.last - start, source.n_rows)
            if low < high:
                pieces.append(source.read(low, high))
            start += source.n_rows
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def chunks_of(plans: Sequence[FilePlan]) -> Iterator[Chunk]:
    """All chunks, tensor by tensor in the order of the first file that has it."""
    by_name: defaultdict[str, list[Wanted]] = defaultdict(list)
    for index, plan in enumerate(plans):
        for tensor, offset in zip(plan.tensors, plan.header.offsets, strict=True):
            by_name[tensor.name].append(Wanted(index, tensor, offset))
    number = 0
    for wanted in map(tuple, by_name.values()):  # shared by the chunks of a tensor, of which there may be thousands
        tensor = wanted[0].plan
        assert all(other.plan.sources == tensor.sources for other in wanted), tensor.name
        for first, last in _cuts(tensor.sources, max(1, READ_WEIGHTS // tensor.sources[0].n_per_row)):
            yield Chunk(number, first, last, wanted)
            number += 1


def _cuts(sources: Sequence[RowSource], most: int) -> Iterator[tuple[int, int]]:
    """Spans of at most `most` rows; where sources are large, none crosses from one into the next."""
    first = last = 0
    for source in sources:
        if last > first and last - first + source.n_rows > most:
            yield first, last
            first = last
        last += source.n_rows
        if last - first > most:
            pieces = -(-(last - first) // most)
            step = -(-(last - first) // pieces)
            yield from ((low, min(low + step, last)) for low in range(first, last, step))
            first = last
    if last > first:
        yield first, last
