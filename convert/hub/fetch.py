"""A file brought onto the disk in ranges, several in flight, so that a run that ends early goes on where it was.

What has come lies in a part file beside the final name, a journal says which chunks of it are durable, and the name is
given only when the whole reads back from the disk with the checksum that it should have.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic

import numpy as np

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub.blob_digest import BlobDigest
from nemotron_gguf.convert.hub.tally import Tally
from nemotron_gguf.convert.source.byte_source import ByteSource
from nemotron_gguf.convert.writer.digest import write_sidecar
from nemotron_gguf.convert.writer.journal import Journal, State
from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.convert.writer.part_file import PartFile
from nemotron_gguf.convert.writer.pipeline import Pipeline, StoppedError
from nemotron_gguf.convert.writer.threads import Beside

CHUNK = 8 << 20  # bytes of one range, and of one entry in the journal
FLUSH_SECONDS = 1.0  # between records of the journal: what a kill costs at most
FORMAT = 1  # of journal and part file together


class Download:
    """One file on its way from `source` to `target`, whose folder exists; `name` is what to call it.

    `expected` is its digest (see BlobDigest). With `sidecar` its SHA-256 is kept beside it as NAME.sha256; without
    `replace` a file that appeared under its name meanwhile is left alone.
    """

    def __init__(
        self,
        source: ByteSource,
        target: Path,
        expected: str | None,
        tally: Tally,
        *,
        name: str,
        sidecar: bool = False,
        replace: bool = False,
    ) -> None:
        self.source, self.target, self.tally, self.name = source, target, tally, name
        self.expected, self.sidecar, self.replace = expected, sidecar, replace
        self.part = PartFile(target, source.size)
        self.journal = Journal(target, self._binding()) if self._count > 1 else None  # one chunk comes or does not
        self.done: dict[int, int] = {}  # chunks that are on the disk, and the CRC-32 of each
        self.fresh: dict[int, int] = {}  # written, not yet known to be on the disk

    def go(self) -> None:
        """Bring the file. Raises ConvertError where another run is at it or its bytes are wrong, and what reading and
        writing raise. Whatever ends it, what came is kept for the next time, unless it is wrong.
        """
        with closing(self.source), Lock(self.target) as lock:
            if self.target.exists() and not self.replace:
                raise ConvertError(f"{self.target} has appeared meanwhile and is kept; run the same command again")
            try:
                self._open()
                self._bring(lock)
                self._finish(self._read_back(), lock)
            except BaseException as error:
                self.source.close()
                self._keep(error)
                raise

    def _binding(self) -> dict[str, object]:
        """All that must be the same for a chunk of an earlier run to be a chunk of this one."""
        source = {"size": self.source.size, "etag": self.source.identity().get("etag"), "digest": self.expected}
        return {"program": {"fetch": FORMAT}, "source": source, "recipe": {"chunk": CHUNK}}

    @property
    def _count(self) -> int:
        """How many chunks there are."""
        return -(-self.part.size // CHUNK)

    def _size(self, number: int) -> int:
        """Bytes of a chunk."""
        return min(CHUNK, self.part.size - number * CHUNK)

    def _open(self) -> None:
        """Take over what an earlier run left, or begin afresh."""
        if self.journal is None:
            self.part.open(fresh=True)
            return
        found, why = self.journal.read()
        if why:
            self.tally.options.say(f"starting {self.name} afresh: {why}")
        if found is not None and self.part.open(fresh=False):
            self.done = self._still_good(found)
        else:
            self.journal.remove()  # first, so that it never speaks of the new file
            self.part.open(fresh=True)
        self.journal.start(State({number: (checksum,) for number, checksum in self.done.items()}))

    def _still_good(self, found: State) -> dict[int, int]:
        """The chunks that the part really holds, by their checksums."""
        claimed = {no: sums[0] for no, sums in found.done.items() if 0 <= no < self._count and len(sums) == 1}
        total, done = sum(map(self._size, claimed)), 0
        count = self.tally.count("checking", self.name)
        good: dict[int, int] = {}
        for number, checksum in sorted(claimed.items()):
            if zlib.crc32(b"".join(self._pieces(number))) == checksum:
                good[number] = checksum
            done += self._size(number)
            count(done, total)
        if good:
            self.tally.options.say(f"going on with {self.name} at {100 * done // self.part.size} %")
        if len(good) < len(claimed):
            self.tally.options.say(f"{len(claimed) - len(good)} chunks of {self.name} are damaged and fetched again")
        return good

    def _pieces(self, number: int) -> Iterator[bytes]:
        """What the part holds of a chunk; ends early where the file does."""
        offset, end = number * CHUNK, number * CHUNK + self._size(number)
        while offset < end and (data := self.part.read(offset, end - offset)):
            yield data
            offset += len(data)

    def _bring(self, lock: Lock) -> None:
        """Read and write every chunk that is missing; note what is done as it gets to the disk."""
        todo = [number for number in range(self._count) if number not in self.done]
        self.tally.add(sum(map(self._size, self.done)), self.name, fetched=False)
        pipeline = Pipeline(self._read, self._write, readers=self.source.in_flight, workers=1)
        with Beside() as flusher, closing(pipeline.run(todo)) as results:
            due = monotonic() + FLUSH_SECONDS
            for number, checksum in results:
                self.fresh[number] = checksum
                self.tally.add(self._size(number), self.name)
                if flusher.is_free() and monotonic() >= due:
                    flusher.start(partial(self._flush, lock))
                    due = monotonic() + FLUSH_SECONDS
            flusher.finish()
        self._flush(lock)

    def _read(self, number: int) -> bytearray:
        return self.source.read(number * CHUNK, self._size(number))

    def _write(self, number: int, data: bytearray, stop: Event) -> int:
        """Write a chunk; returns its checksum."""
        if stop.is_set():
            raise StoppedError
        self.part.write(np.frombuffer(data, dtype=np.uint8), number * CHUNK)
        return zlib.crc32(data)

    def _flush(self, lock: Lock | None) -> None:
        """Bring what is written to the disk, then say so in the journal: in this order."""
        done = dict(self.fresh)  # chunks that come meanwhile wait for the next time
        if lock is not None:
            lock.check()
        self.part.flush()
        if done and self.journal:
            self.journal.record({number: (checksum,) for number, checksum in done.items()})
        for number, checksum in done.items():
            self.done[number] = checksum
            del self.fresh[number]

    def _read_back(self) -> str:
        """The SHA-256 of the whole, read from the disk.

        Raises Interrupted where it is not what was written, ConvertError where it is not what it should be.
        """
        self.part.forget_cache()
        digest, count, bad = BlobDigest(self.part.size, self.expected), self.tally.count("verifying", self.name), []
        for number in range(self._count):
            checksum = 0
            for data in self._pieces(number):
                checksum = zlib.crc32(data, checksum)
                digest.update(data)
            if checksum != self.done[number]:
                bad.append(number)
            count(number * CHUNK + self._size(number), self.part.size)
        if bad:
            self.done = {number: checksum for number, checksum in self.done.items() if number not in bad}
            if self.journal:
                self.journal.forget(bad)
            raise Interrupted(
                f"{self.part.path} does not read back as it was written in {len(bad)} places:"
                " the disk or the memory of this machine is faulty"
            )
        if not digest.is_right:
            self.done = {}
            raise ConvertError(
                f"{self.name} came with the digest {digest.found}, {self.expected} expected by its repository's"
                " listing; nothing of it is kept: run the same command again, or check HF_ENDPOINT"
            )
        return digest.sha256

    def _finish(self, sha256: str, lock: Lock) -> None:
        """Give the file its name."""
        lock.check()
        if self.sidecar:
            write_sidecar(self.target, sha256)
        self.part.rename()
        if self.journal:
            self.journal.remove()

    def _keep(self, error: BaseException) -> None:
        """Keep what came for the next run, and say how to go on; where nothing did, leave nothing."""
        if self.fresh:
            with suppress(ConvertError):
                self._flush(None)
        self.part.close()
        if self.journal and self.done:
            self.journal.close()
        else:
            with suppress(ConvertError):
                self.part.discard()
                if self.journal:
                    self.journal.remove()
            return
        kept = 100 * sum(map(self._size, self.done)) // self.part.size
        error.add_note(f"{kept} % of {self.name} is kept: the same command goes on there")
