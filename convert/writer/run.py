"""One run of the writer: a loop over frozen plans that reads rows, transforms, encodes and writes at an offset.

Every chunk's place is known beforehand, so threads need not wait for each other, and memory is a few chunks a thread
whatever the tensor's size.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.cast import PLAIN, to_float32
from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.convert.widths.resize import Resize
from nemotron_gguf.convert.writer.chunks import Chunk, Wanted, chunks_of
from nemotron_gguf.convert.writer.digest import sidecar_path, write_sidecar
from nemotron_gguf.convert.writer.earlier import find, frame, percent, still_good
from nemotron_gguf.convert.writer.journal import Checksums, Journal, State
from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.convert.writer.options import Progress, WriteOptions
from nemotron_gguf.convert.writer.part_file import PartFile, as_bytes, sync_folder
from nemotron_gguf.convert.writer.pipeline import Pipeline, StoppedError
from nemotron_gguf.convert.writer.read_back import ReadBack
from nemotron_gguf.convert.writer.targets import Output, check_taken, check_targets
from nemotron_gguf.convert.writer.threads import Beside
from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_parts import part_paths

ENCODE_WEIGHTS = 1 << 20  # weights encoded at a time: 4 MiB as float32, within a core's share of the cache
FLUSH_SECONDS = 1.0  # between records of the journal: what a kill costs, and early enough to keep the disk busy


def binding_of(outputs: Sequence[Output], source: Mapping[str, Any]) -> dict[str, Any]:
    """All that must be the same for a chunk of an earlier run to be a chunk of this one."""
    return {
        "program": {name: _version(name) for name in ("nemotron-gguf", "llama-cpp-python")},
        "source": source,
        "recipe": [[output.path.name, output.plan.fingerprint] for output in outputs],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


class Run:
    """One run over its outputs, from what an earlier one left to the final names."""

    def __init__(self, outputs: Sequence[Output], options: WriteOptions, locks: Sequence[Lock]) -> None:
        self.outputs, self.options, self.locks = outputs, options, locks
        self.parts = [PartFile(output.path, output.plan.header.file_size) for output in outputs]
        self.chunks = list(chunks_of([output.plan for output in outputs]))
        self.state = State()
        self.resumable = False  # there is a journal that another run can go on with
        self.fresh: dict[int, Checksums] = {}  # encoded and written, not yet known to be on the disk
        self.journal: Journal | None = None
        if options.source is not None:
            self.journal = Journal(outputs[0].path, binding_of(outputs, options.source))

    def go(self) -> None:
        """From what an earlier run left to the final names; see `write_files` for the errors."""
        found = None
        if self.journal and not self.options.restart:
            found = find(self.journal, self.parts, self.chunks, self.options.say)
        if found is None or found.sealed is None:
            check_targets(self.outputs, self.options.force)
        self.resumable = found is not None
        try:
            self._open(found)
            if self.state.sealed is None:
                reading = self._reading() if self.options.verify else None
                self._write(reading)
                self._seal(self._verify(reading) if reading else (None,) * len(self.parts))
            self._name()
        except BaseException as error:
            fails_again = isinstance(error, NemotronError) and not isinstance(error, Interrupted)
            if self.journal is None or not self.resumable or fails_again:
                self._discard()
            else:
                self._keep(self.journal, error)
            raise

    def _open(self, found: State | None) -> None:
        """Take over what an earlier run left, or begin afresh."""
        self.state = found or State()
        if found is not None and found.sealed is not None:
            found = self._still_finished(found)
            if found is not None and found.sealed is not None:
                self.state = found
                return
        if found is not None and all(part.open(fresh=False) for part in self.parts):
            self._write_frames()
            self.state = still_good(self.parts, self.chunks, found, self.options.say, self._report("checking"))
        else:
            if self.journal:
                self.journal.remove()  # first, so that it never speaks of the new file
            self.state, self.resumable = State(), False
            for part in self.parts:
                part.open(fresh=True)
            self._write_frames()
        if self.journal:
            self.journal.start(self.state)
            self.resumable = True

    def _write_frames(self) -> None:
        for part, output in zip(self.parts, self.outputs, strict=True):
            for offset, data in frame(output.plan):
                part.write(as_bytes(data), offset)

    def _still_finished(self, found: State) -> State | None:
        """What an earlier run finished, and perhaps named in part, if it still is what it was; else what is left."""
        assert found.sealed is not None
        if all(part.open_finished() for part in self.parts):
            digests, bad = self._reading().finish(found.done, self._report("checking"))
            if not bad:
                self.options.say("going on where an earlier run ended, at 100 %")
                return State(found.done, digests if self.options.verify else found.sealed)
            check_taken(self.outputs, self.options.force)
            if all(part.there for part in self.parts):
                return State(found.done)  # which of them are damaged is found out again
        self.options.say("starting afresh: a file that an earlier run had finished is damaged or another one")
        check_taken(self.outputs, self.options.force)
        return None

    def _reading(self) -> ReadBack:
        return ReadBack(self.parts, [output.plan.header.data for output in self.outputs], self.chunks)

    def _report(self, phase: str) -> Callable[[int, int], None]:
        sizes = tuple(part.size for part in self.parts)
        return lambda done, total: self.options.report(Progress(phase, done, total, "", sizes))

    def _write(self, reading: ReadBack | None) -> None:
        """Read, encode and write every chunk that is missing, and read back what has got to the disk meanwhile."""
        todo = [chunk for chunk in self.chunks if chunk.number not in self.state.done]
        total, written = sum(chunk.source_bytes for chunk in self.chunks), [0] * len(self.parts)
        done = total - sum(chunk.source_bytes for chunk in todo)
        for chunk in self.chunks:
            if chunk.number in self.state.done:
                _count(chunk, written)
        pipeline = Pipeline(
            lambda chunk: chunk.read(), self._encode, self.options.readers, self.options.threads or os.cpu_count() or 1
        )
        with Beside() as flusher, closing(pipeline.run(todo)) as results:  # an error here must end its threads, too
            due = time.monotonic() + FLUSH_SECONDS
            self.options.report(Progress("writing", done, total, "", tuple(written)))
            for chunk, checksums in results:
                self.fresh[chunk.number] = checksums
                done += chunk.source_bytes
                _count(chunk, written)
                self.options.report(Progress("writing", done, total, chunk.tensor.name, tuple(written)))
                if flusher.is_free() and time.monotonic() >= due:
                    flusher.start(partial(self._flush, reading))
                    due = time.monotonic() + FLUSH_SECONDS
            flusher.finish()
        self._flush()

    def _encode(self, chunk: Chunk, rows: Rows, stop: Event) -> Checksums:
        """Encode and write a chunk for every file that wants it; returns the checksum of each."""
        checksums = [0] * len(chunk.wanted)
        source = chunk.tensor.sources[0]
        kind, step = source.type, max(1, ENCODE_WEIGHTS // source.n_per_row)
        for first in range(chunk.first, chunk.last, step):
            if stop.is_set():
                raise StoppedError
            last = min(first + step, chunk.last)
            some = rows[first - chunk.first : last - chunk.first]
            for index, wanted in enumerate(chunk.wanted):
                encoded = encode(wanted, some, kind, first)
                checksums[index] = zlib.crc32(encoded.data, checksums[index])
                if len(encoded):
                    self.parts[wanted.file].write(encoded, wanted.span(first, last)[0])
        return tuple(checksums)

    def _flush(self, reading: ReadBack | None = None) -> None:
        """Bring what is written to the disk, then say so in the journal, in this order; then some may be read back."""
        if self.journal is None or not self.journal.is_open:
            return
        done = dict(self.fresh)  # chunks finished meanwhile wait for the next time
        for lock in self.locks:
            lock.check()
        for part in self.parts:
            part.flush()
        if done:
            self.journal.record(done)
        for number, checksums in done.items():
            self.state.done[number] = checksums
            del self.fresh[number]
        if reading:
            reading.advance(self.state.done)

    def _verify(self, reading: ReadBack) -> tuple[str, ...]:
        """Read back all outputs; returns the SHA-256 of each. Raises Interrupted where one is not what was written."""
        for part in self.parts:
            part.flush()
        sums = self.state.done | self.fresh
        digests, bad = reading.finish(sums, self._report("verifying"))
        if bad:
            self.state.done = {number: value for number, value in sums.items() if number not in bad}
            if self.journal:
                self.journal.forget(sorted(bad))
            raise Interrupted(
                f"{self.parts[0].path} does not read back as it was written in {len(bad)} places:"
                " the disk or the memory of this machine is faulty"
            )
        return digests

    def _seal(self, digests: tuple[str | None, ...]) -> None:
        for part in self.parts:
            part.flush()
        if self.journal:
            self.journal.seal(digests)
        self.state.sealed = digests

    def _name(self) -> None:
        """Give the files their names, the first part of a split file after the others, and write their checksums."""
        assert self.state.sealed is not None
        waiting = [output for part, output in zip(self.parts, self.outputs, strict=True) if part.there]
        check_taken(waiting, self.options.force)  # one may have appeared meanwhile
        order = sorted(range(len(self.parts)), key=lambda index: self.outputs[index].last)
        for index in order:
            if self.outputs[index].last:
                self._unname(index, {output.path for output in waiting})
        for index in order:
            for lock in self.locks:
                lock.check()
            path, digest = self.outputs[index].path, self.state.sealed[index]
            self._remove(index, sidecar_path(path))  # of a file that is replaced
            self.parts[index].rename()
            if digest is not None:
                write_sidecar(path, digest)
        if self.journal:
            self.journal.remove()

    def _unname(self, index: int, waiting: set[Path]) -> None:
        """Remove an old first part before any other of its set is replaced: nobody may take the mixture for a model."""
        path = self.outputs[index].path
        if path in waiting and len(waiting.intersection(part_paths(path))) > 1 and path.exists():
            self._remove(index, path)

    def _remove(self, index: int, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
        except OSError as error:
            raise self.parts[index].failure("naming", error) from error

    def _keep(self, journal: Journal, error: BaseException) -> None:
        """Keep what is done for the next run, and say how to go on."""
        if self.fresh:
            with suppress(ConvertError):
                self._flush()
        for part in self.parts:
            part.close()
        journal.close()
        done = percent(self.chunks, self.state.done)
        error.add_note(f"{done} % is kept: the same command goes on there, --restart forgets it")

    def _discard(self) -> None:
        """Remove what there is, unless another run has it now."""
        ours = all(lock.held for lock in self.locks)
        for part in self.parts:
            part.discard() if ours else part.close()
        if self.journal:
            self.journal.close()
            if ours:
                with suppress(ConvertError):
                    self.journal.remove()


def _count(chunk: Chunk, written: list[int]) -> None:
    for wanted in chunk.wanted:
        written[wanted.file] += wanted.span(chunk.first, chunk.last)[1]


def encode(wanted: Wanted, rows: Rows, kind: GGMLType, first: int) -> Rows:
    """Rows as a file wants them; `first` is the place of the first one in the sources of the tensor."""
    plan = wanted.plan
    if plan.transform is not None:
        values = np.ascontiguousarray(plan.transform(to_float32(rows, kind)), dtype=np.float32)
        rows, kind = values.view(np.uint8), GGMLType.F32
    if plan.resize is not None:
        rows, kind = resized(plan.resize, rows, kind, first)
        if not len(rows):  # every one of them was trimmed away
            return np.empty((0, plan.type.row_bytes(plan.n_per_row)), np.uint8)
    encoded = plan.encoder.encode(rows, kind, plan.n_per_row, plan.place(first))
    assert encoded.shape == (len(rows), plan.type.row_bytes(plan.n_per_row)), plan.name
    return np.ascontiguousarray(encoded)


def resized(resize: Resize, rows: Rows, kind: GGMLType, first: int) -> tuple[Rows, GGMLType]:
    """Rows of a source with their new places and widths; scaled ones come as F32, others as they were."""
    if resize.scale != 1:
        rows, kind = (to_float32(rows, kind) * np.float32(resize.scale)).view(np.uint8), GGMLType.F32
    numbers: npt.NDArray[np.generic] = rows.view(str(PLAIN[kind]))
    return resize.apply(numbers, first).view(np.uint8), kind
