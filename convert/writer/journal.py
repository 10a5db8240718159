"""What is durable of an unfinished file: a small log that a later run reads to go on where this one ended.

One line a record, each with a checksum of its own, so a line that a power cut tore is recognised. The first says what
is being made of what; the others which chunks are written and flushed, with the checksum of each in each output.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemotron_gguf.convert.errors import Interrupted
from nemotron_gguf.convert.writer.part_file import FLAGS, create, sync_folder

MAX_BYTES = 256 << 20  # a hundred bytes a chunk: far more than the largest model of the family needs

CHANGED = {"program": "version of this program", "source": "source", "recipe": "recipe"}

Checksums = tuple[int, ...]
"""CRC-32 of one chunk in each of the outputs that want it."""


@dataclass
class State:
    """What the records say: chunks by number, and the SHA-256 of each output once all are written and verified."""

    done: dict[int, Checksums] = field(default_factory=dict)
    sealed: tuple[str | None, ...] | None = None


class Journal:
    """The log of one run over one or several outputs; `binding` is all that must be equal for its chunks to count."""

    def __init__(self, first: Path, binding: Mapping[str, Any]) -> None:
        self.path = first.with_name(first.name + ".journal")
        self.binding = json.loads(json.dumps(binding))
        self._fd = -1
        self._torn: OSError | None = None

    @property
    def is_open(self) -> bool:
        """Whether records can be added."""
        return self._fd >= 0

    def read(self) -> tuple[State | None, str | None]:
        """What an earlier run left, or None and a sentence why it does not count (None where there was none)."""
        try:
            if self.path.stat().st_size > MAX_BYTES:
                return None, f"{self.path} is too large for a journal"
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise Interrupted(f"cannot read {self.path}: {error.strerror or error}") from error
        found = _decode(lines[0])
        if found is None:
            return None, f"{self.path} is damaged"
        if found != self.binding:
            return None, _difference(found, self.binding)
        state = State()
        for line in lines[1:]:
            record = _decode(line)
            if record is None or not _apply(record, state):
                break  # the last line of a run that was cut; what follows a damaged line is not trusted either
        return state, None

    def start(self, state: State) -> None:
        """Write the journal anew with what still holds, and keep it open for more."""
        partial = self._partial
        try:
            partial.unlink(missing_ok=True)
            self._fd = create(partial, os.O_WRONLY)
            self._append(self.binding)
            if state.done:
                self._append(_done(state.done))
            if state.sealed is not None:
                self._append({"sealed": list(state.sealed)})
            os.fsync(self._fd)
            if os.name == "nt":  # an open file cannot be renamed there
                self.close()
            partial.replace(self.path)
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | FLAGS)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._failure("writing", error) from error

    @property
    def _partial(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def record(self, done: Mapping[int, Checksums]) -> None:
        """Note chunks that are written and flushed; durable on return."""
        self._write(_done(done))

    def forget(self, chunks: list[int]) -> None:
        """Note that chunks turned out damaged."""
        self._write({"forget": chunks})

    def seal(self, digests: tuple[str | None, ...]) -> None:
        """Note that all outputs are complete: only names remain to be given."""
        self._write({"sealed": list(digests)})

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._torn is not None:
            raise self._failure("writing", self._torn)
        try:
            self._append(record)
            os.fsync(self._fd)
        except OSError as error:
            self._torn = error  # nothing may follow what is perhaps half a line
            raise self._failure("writing", error) from error

    def _append(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
        view = memoryview(b"%08x %s\n" % (zlib.crc32(text), text))
        while view:
            count = os.write(self._fd, view)
            if count == 0:
                raise OSError("nothing was written")
            view = view[count:]

    def close(self) -> None:
        """Give the descriptor back; the file stays."""
        descriptor, self._fd, self._torn = self._fd, -1, None
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def remove(self) -> None:
        """The outputs are named, or given up. After a power cut it may be there again, and is judged by the files."""
        self.close()
        try:
            self._partial.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise self._failure("removing", error) from error

    def _failure(self, doing: str, error: OSError) -> Interrupted:
        return Interrupted(f"{doing} {self.path} failed: {error.strerror or error}")


def _done(done: Mapping[int, Checksums]) -> dict[str, Any]:
    return {"done": [[number, *checksums] for number, checksums in sorted(done.items())]}


def _decode(line: bytes) -> Any | None:
    """The record of a line, None where its checksum does not fit."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # whoever wrote this, it was not a journal
        return None


def _apply(record: Any, state: State) -> bool:
    match record:
        case {"done": list(rows)} if all(_are_numbers(row) and row for row in rows):
            state.done.update({row[0]: tuple(row[1:]) for row in rows})
        case {"forget": list(chunks)} if _are_numbers(chunks):
            for number in chunks:
                state.done.pop(number, None)
        case {"sealed": list(digests)}:
            state.sealed = tuple(digests)
        case _:
            return False
    return True


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(number, int) for number in value)


def _difference(found: object, binding: Mapping[str, Any]) -> str:
    """Which part of the binding changed, in the words of its key."""
    if not isinstance(found, dict):
        return "what an earlier run left is of another version of this program"
    changed = [key for key in binding if found.get(key) != binding[key]] or ["program"]
    words = [CHANGED.get(key, key) for key in changed]
    return f"what an earlier run left is of another {' and another '.join(words)}"
