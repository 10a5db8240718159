"""A power cut, rehearsed: of what was not flushed any part may be lost, of names and of bytes, in any order.

A run's calls are written down, and for many moments a disk is made as the worst one might be after a cut there. No
final name may hold a partial file on it, and the same command must end in the same bytes.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Writer

Call: TypeAlias = tuple[str, tuple[Any, ...], Any]
SECTOR = 512


@dataclass(eq=False)
class File:
    """Bytes on the disk, and what was written since the last flush: an offset and bytes, or a size alone."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def flush(self) -> None:
        for at, data in self.pending:
            self._apply(at, data)
        self.pending.clear()

    def after_cut(self, chance: random.Random) -> bytes:
        """What is there then: some of the writes, some of them in part."""
        for at, data in self.pending:
            fate = chance.random()
            if fate < 0.4:
                self._apply(at, data)
            elif fate < 0.6 and data is not None:
                self._apply(at, data[: chance.randrange(0, len(data) + SECTOR, SECTOR)])
        return bytes(self.durable)

    def _apply(self, at: int, data: bytes | None) -> None:
        end = at if data is None else at + len(data)
        if data is None:
            del self.durable[at:]
        self.durable.extend(bytes(max(0, end - len(self.durable))))
        if data is not None:
            self.durable[at:end] = data


Names: TypeAlias = dict[str, File | None]


class Disk:
    """One folder's files and names as calls change them."""

    def __init__(self) -> None:
        self.names: Names = {}  # as the running system sees them; None where there was a file
        self.durable: Names = {}
        self.pending: list[Names] = []
        self.open: dict[int, tuple[File | None, int]] = {}  # by descriptor: the file, None for the folder; the place

    def play(self, call: Call) -> None:
        name, args, result = call
        match name:
            case "open":
                self._open(args[0], args[1], result)
            case "pwrite" | "write":
                file, place = self.open[args[0]]
                assert file is not None
                at = args[2] if name == "pwrite" else place
                file.pending.append((at, args[1][:result]))
                self.open[args[0]] = file, at + result
            case "ftruncate":
                file, _ = self.open[args[0]]
                assert file is not None
                file.pending.append((args[1], None))
            case "fsync" | "fdatasync":
                self._flush(self.open[args[0]][0])
            case "replace" | "link" | "unlink":
                self._rename(name, *args[:2])
            case _:
                assert name == "utime", name

    def _open(self, path: str, flags: int, descriptor: int) -> None:
        name = Path(path).name
        if self.names.get(name) is None and flags & os.O_CREAT:
            self._change({name: File()})
        file = self.names.get(name)  # None is the folder
        if flags & os.O_TRUNC:
            assert file is not None
            file.pending.append((0, None))
        self.open[descriptor] = file, 0

    def _flush(self, file: File | None) -> None:
        if file is not None:
            file.flush()
            return
        for its in self.pending:
            self.durable |= its
        self.pending.clear()

    def _rename(self, name: str, path: str, other: str = "") -> None:
        before, after = Path(path).name, Path(other).name
        file, changes = self.names[before], {"unlink": {before: None}, "link": {}, "replace": {before: None}}
        self._change({**changes[name], **({after: file} if other else {})})

    def _change(self, change: Names) -> None:
        """Names change, all of them at once or none."""
        self.names |= change
        self.pending.append(change)

    def after_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Names and bytes then: of the changes of names since the last flush the first few, or any of them."""
        names, few = dict(self.durable), chance.randint(0, len(self.pending))
        in_order = chance.random() < 0.5
        for number, its in enumerate(self.pending):
            if number < few if in_order else chance.random() < 0.5:
                names |= its
        return {name: file.after_cut(chance) for name, file in names.items() if file is not None}


def cut(calls: Sequence[Call], folder: Path, seed: int) -> None:
    """Fill a folder as a disk is after these calls and a power cut."""
    disk = Disk()
    for call in calls:
        disk.play(call)
    folder.mkdir(parents=True)
    for name, data in disk.after_cut(random.Random(seed)).items():
        (folder / name).write_bytes(data)


@pytest.fixture
def calls(writer: Writer, place: Path, request: pytest.FixtureRequest) -> list[Call]:
    """The calls of an undisturbed run, in their order."""
    trace = place / "calls"
    place.mkdir()
    assert writer.run(place / "undisturbed", request.param, trace=str(trace)).done
    found: list[Call] = pickle.loads(trace.read_bytes())
    return found


@pytest.mark.parametrize("calls", ["tiny"], indirect=True)
def test_the_rehearsal_itself(writer: Writer, calls: list[Call], tmp_path: Path) -> None:
    """Nothing lost: the folder as it is. Data never flushed: a name that holds a partial file."""
    synced: list[Call] = [*calls, ("open", ("folder", 0), -5), ("fsync", (-5,), None)]
    cut(synced, tmp_path / "all", 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()} == writer.truth("tiny")
    careless = [call for call in synced if call[0] != "fdatasync"]
    cut(careless, tmp_path / "careless", 0)
    with pytest.raises(AssertionError):
        writer.check_names(tmp_path / "careless")


@pytest.mark.parametrize(("calls", "job"), [("tiny", "tiny"), ("split", "split")], indirect=["calls"])
def test_at_any_moment(writer: Writer, place: Path, calls: list[Call], job: str) -> None:
    """At moments all along the run, most of them while names are given."""

    def one(number: int) -> None:
        folder = place / str(number)
        cut(calls[:number], folder, number)
        writer.check_names(folder, job)
        writer.finish(folder, job)
        shutil.rmtree(folder)

    late = len(calls) - 45
    writer.each(one, [*range(12, late, 5), *range(late, len(calls), 2 if job == "split" else 1)])
