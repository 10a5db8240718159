"""What is durable of an unfinished file: a small log that a later run reads to go on where this one ended.

One line a record, each with a checksum of its own, so a line that a power cut tore is recognised. The first says what
is being made of what; the others which chunks are written and flushed, with the checksum of each in each output.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.part_file import sync_folder

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
            raise ConvertError(f"cannot read {self.path}: {error.strerror or error}") from error
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
        partial = self.path.with_name(self.path.name + ".new")
        try:
            self._fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o644)
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
                self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._failure(error) from error

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
        try:
            self._append(record)
            os.fsync(self._fd)
        except OSError as error:
            raise self._failure(error) from error

    def _append(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
        view = memoryview(b"%08x %s\n" % (zlib.crc32(text), text))
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        """Give the descriptor back; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """The outputs are named, or given up."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.path.with_name(self.path.name + ".new").unlink(missing_ok=True)

    def _failure(self, error: OSError) -> Interrupted:
        return Interrupted(f"writing {self.path} failed: {error.strerror or error}")


def _done(done: Mapping[int, Checksums]) -> dict[str, Any]:
    return {"done": [[number, *checksums] for number, checksums in sorted(done.items())]}


def _decode(line: bytes) -> Any | None:
    """The record of a line, None where its checksum does not fit."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)


def _apply(record: Mapping[str, Any], state: State) -> bool:
    match record:
        case {"done": list(rows)}:
            state.done.update({row[0]: tuple(row[1:]) for row in rows})
        case {"forget": list(chunks)}:
            state.done = {number: sums for number, sums in state.done.items() if number not in chunks}
        case {"sealed": list(digests)}:
            state.sealed = tuple(digests)
        case _:
            return False
    return True


def _difference(found: object, binding: Mapping[str, Any]) -> str:
    """Which part of the binding changed, in the words of its key."""
    if not isinstance(found, dict):
        return "what an earlier run left is of another version of this program"
    changed = [key for key in binding if found.get(key) != binding[key]]
    words = [CHANGED.get(key, key) for key in changed]
    return f"what an earlier run left is of another {' and another '.join(words)}"
