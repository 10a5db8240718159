"""The one writer of GGUF files: a loop over frozen plans that reads rows, transforms, encodes and writes at an offset.

Several files that are made of the same tensors are written together, each row of the source read once. Every chunk's
place is known beforehand, so threads need not wait for each other, and memory is a few chunks a thread whatever the
tensor's size. A file appears under its name only when complete.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from nemotron_gguf.convert.cast import to_float32
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, Rows, RowSource, TensorPlan
from nemotron_gguf.models.ggml import GGMLType

CHUNK_WEIGHTS = 1 << 20  # weights read at a time by a thread: 4 MiB as float32, within a core's share of the cache

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the weights done and the weights in all, from the thread that called `write_files`."""


@dataclass(frozen=True)
class Output:
    """A file to be written: its plan and its final name."""

    plan: FilePlan
    path: Path


def write_files(
    outputs: Sequence[Output], *, threads: int | None = None, force: bool = False, progress: Progress | None = None
) -> None:
    """Write all outputs in one pass over their sources.

    `threads` defaults to the number of cores. Raises ConvertError where a file exists and `force` is not given, where
    the disk has no room, and for every fault of reading or writing; whatever happens, no partial file remains.
    """
    check_targets(outputs, force)
    units = list(_units(outputs))
    total, done = sum(unit.n_weights for unit in units), 0
    with ExitStack() as stack:
        parts = [stack.enter_context(_Part(output, force)) for output in outputs]
        for weights in _run(units, parts, threads or os.cpu_count() or 1):
            done += weights
            if progress:
                progress(done, total)
        for part in parts:
            part.complete()


def check_targets(outputs: Sequence[Output], force: bool) -> None:
    """Refuse, before any work, names that are taken or given twice, and folders that are missing or too full."""
    needed: defaultdict[Path, int] = defaultdict(int)
    seen: set[Path] = set()
    for output in outputs:
        if output.path.is_dir():
            raise ConvertError(f"{output.path} is a folder, expected the name of a file to write")
        if output.path in seen:
            raise ConvertError(f"two outputs have the name {output.path}; give each its own")
        if output.path.exists() and not force:
            raise ConvertError(f"{output.path} exists and is kept; remove it, choose another name or pass --force")
        if not output.path.parent.is_dir():
            what = "is no folder; choose another" if output.path.parent.exists() else "does not exist; make it first"
            raise ConvertError(f"{output.path.parent} {what}")
        seen.add(output.path)
        needed[output.path.parent] += output.plan.header.file_size
    for folder, size in needed.items():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise ConvertError(
                f"{folder} has {free / 1e9:.2f} GB free, {size / 1e9:.2f} GB are needed; free some or write elsewhere"
            )


@dataclass(frozen=True)
class _Unit:
    """A chunk of rows of one tensor, and the files that want it: (index of the file, its plan, absolute offset)."""

    first: int
    last: int
    wanted: tuple[tuple[int, TensorPlan, int], ...]

    @property
    def tensor(self) -> TensorPlan:
        return self.wanted[0][1]

    @property
    def n_weights(self) -> int:
        return (self.last - self.first) * self.tensor.n_per_row


def _units(outputs: Sequence[Output]) -> Iterator[_Unit]:
    """Chunks in the order of the first file that has the tensor."""
    by_name: defaultdict[str, list[tuple[int, TensorPlan, int]]] = defaultdict(list)
    for index, output in enumerate(outputs):
        for tensor, offset in zip(output.plan.tensors, output.plan.header.offsets, strict=True):
            by_name[tensor.name].append((index, tensor, offset))
    for wanted in by_name.values():
        tensor = wanted[0][1]
        assert all(other.sources == tensor.sources for _, other, _ in wanted), tensor.name
        step = max(1, CHUNK_WEIGHTS // tensor.n_per_row)
        for first in range(0, tensor.n_rows, step):
            yield _Unit(first, min(first + step, tensor.n_rows), tuple(wanted))


def _run(units: Sequence[_Unit], parts: Sequence[_Part], threads: int) -> Iterator[int]:
    """Process the chunks with a bounded number under way; yields the weights of each one done."""
    pending: set[Future[int]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="quantize") as pool:
        try:
            for unit in units:
                pending.add(pool.submit(_process, unit, parts))
                if len(pending) >= 2 * threads:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _process(unit: _Unit, parts: Sequence[_Part]) -> int:
    tensor = unit.tensor
    rows, kind = _gather(tensor.sources, unit.first, unit.last)
    for index, plan, offset in unit.wanted:
        data, source = rows, kind
        if plan.transform is not None:
            values = np.ascontiguousarray(plan.transform(to_float32(rows, kind)), dtype=np.float32)
            data, source = values.view(np.uint8), GGMLType.F32
        encoded = plan.encoder.encode(data, source, plan.n_per_row, unit.first)
        row_bytes = plan.type.row_bytes(plan.n_per_row)
        assert encoded.shape == (unit.last - unit.first, row_bytes), plan.name
        parts[index].write(np.ascontiguousarray(encoded), offset + unit.first * row_bytes)
    return unit.n_weights


def _gather(sources: Sequence[RowSource], first: int, last: int) -> tuple[Rows, GGMLType]:
    """Rows `first` to `last` of the stacked sources; all sources of a tensor are of one type."""
    pieces: list[Rows] = []
    start = 0
    for source in sources:
        low, high = max(first - start, 0), min(last - start, source.n_rows)
        if low < high:
            pieces.append(source.read(low, high))
        start += source.n_rows
    return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)), sources[0].type


class _Part:
    """A file under construction, beside its final name; removed unless it is completed."""

    def __init__(self, output: Output, force: bool) -> None:
        self.output, self.force = output, force
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        target = self.output.path
        try:
            self.fd, name = mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        except OSError as error:
            raise ConvertError(f"cannot write in {target.parent}: {error.strerror or error}") from error
        self.path = Path(name)
        try:
            os.truncate(self.path, self.output.plan.header.file_size)  # padding between tensors is zeros
            self.write(np.frombuffer(self.output.plan.header.data, dtype=np.uint8), 0)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise self._failure(error) from error
            raise
        return self

    def write(self, data: Rows, offset: int) -> None:
        """Write all bytes at an absolute offset."""
        view = memoryview(data.data).cast("B")
        try:
            while view:
                count = self._write_some(view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise self._failure(error) from error

    def _write_some(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self.fd, view, offset)
        with self.lock:
            os.lseek(self.fd, offset, os.SEEK_SET)
            return os.write(self.fd, view)

    def complete(self) -> None:
        """Flush to the disk and give the file its name."""
        try:
            os.fsync(self.fd)
            os.close(self.fd)
            self.fd = -1
            self.path.chmod(0o666 & ~_umask())  # mkstemp's files are private, finished ones as any other
            if self.output.path.exists() and not self.force:
                raise ConvertError(f"{self.output.path} appeared meanwhile and is kept; pass --force to replace it")
            self.path.replace(self.output.path)
        except OSError as error:
            raise self._failure(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.path.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> ConvertError:
        return ConvertError(f"writing {self.output.path} failed: {error.strerror or error}; nothing was left behind")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
