"""A power cut, rehearsed: of what was not flushed any part may be lost, of names and of bytes, in any order.

A run's calls are written down, and for many moments a disk is made as the worst one might be after a cut there. No
final name may hold a partial file on it, and the same command must end in the same bytes.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Mapping, Sequence
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

    def __init__(self, before: Mapping[str, bytes]) -> None:
        self.durable: Names = {name: File(bytearray(data)) for name, data in before.items()}
        self.names = dict(self.durable)  # as the running system sees them; None where there was a file
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


@dataclass(frozen=True)
class Trace:
    """The calls of one run, and the files that it found."""

    before: Mapping[str, bytes]
    calls: Sequence[Call]

    def cut(self, number: int, folder: Path, seed: int) -> None:
        """Fill a folder as a disk is after so many calls and a power cut."""
        disk = Disk(self.before)
        for call in self.calls[:number]:
            disk.play(call)
        folder.mkdir(parents=True)
        for name, data in disk.after_cut(random.Random(seed)).items():
            (folder / name).write_bytes(data)


def traced(writer: Writer, folder: Path, job: str, **request: Any) -> Trace:
    """An undisturbed run over what is in a folder, written down."""
    before, trace = contents(folder), folder.with_name("calls")
    assert writer.run(folder, job, trace=str(trace), **request).done
    return Trace(before, pickle.loads(trace.read_bytes()))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def models(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.endswith(".gguf")}


def test_the_rehearsal_itself(writer: Writer, place: Path) -> None:
    """Nothing lost: the folder as it is. Data never flushed: a name that holds a partial file."""
    trace = traced(writer, place / "run", "tiny")
    synced: list[Call] = [*trace.calls, ("open", ("folder", 0), -5), ("fsync", (-5,), None)]
    Trace({}, synced).cut(len(synced), place / "all", 0)
    assert contents(place / "all") == writer.truth("tiny")
    careless = [call for call in synced if call[0] != "fdatasync"]
    Trace({}, careless).cut(len(careless), place / "careless", 0)
    with pytest.raises(AssertionError):
        writer.check_names(place / "careless")


SEALED = {"step": "replace a.gguf.part", "at": 1, "how": "before"}
HALF = {"step": "fsync a.gguf.journal.new", "at": 3, "how": "after"}
BEFORE: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any]]] = {
    # the job, what was run before it, and how it is run then
    "nothing": ("tiny", None, {}),
    "nothing, in parts": ("split", None, {}),
    "an unfinished run": ("tiny", {"fault": HALF, "read_seconds": 0.05}, {}),
    "a finished run, forgotten": ("tiny", {"fault": SEALED}, {"options": {"restart": True}}),
    "a finished run of another recipe": ("tiny", {"fault": SEALED, "recipe": "tset"}, {}),
    "old files": ("tiny", {"recipe": "tset"}, {"options": {"force": True}}),
    "old files in parts": ("split", {"recipe": "tset"}, {"options": {"force": True}}),
}


@pytest.mark.parametrize("before", BEFORE)
def test_at_any_moment(writer: Writer, place: Path, before: str) -> None:
    """At moments all along a run over what another left, most of them while names are given."""
    job, earlier, request = BEFORE[before]
    if earlier is not None:
        writer.run(place / "run", job, **earlier)
    trace = traced(writer, place / "run", job, **request)
    truth = writer.truth(job)

    def one(number: int) -> None:
        folder = place / str(number)
        trace.cut(number, folder, number)
        named = models(contents(folder))
        assert all(data in (truth[name], trace.before.get(name)) for name, data in named.items()), number
        if "a-00001-of-00003.gguf" in named:
            assert named in (models(truth), models(trace.before)), (number, "a mixed set")
        writer.finish(folder, job, options={"force": bool(request.get("options", {}).get("force"))})
        shutil.rmtree(folder)

    late = len(trace.calls) - 45
    writer.each(one, [*range(12, late, 7), *range(late, len(trace.calls), 1 if earlier is None else 2)])


def test_no_name_before_the_data(writer: Writer, place: Path) -> None:
    """Also where nothing is kept for another run and nothing is read back."""
    trace = traced(writer, place / "run", "tiny", source=None, options={"verify": False})
    for number in range(len(trace.calls)):
        for seed in range(4):
            trace.cut(number, place / f"{number}-{seed}", seed)
            writer.check_names(place / f"{number}-{seed}")
