"""What others do to a run, or between two runs, is not undone by it: locks taken away, names taken, files replaced."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert.writer.lock import Owner

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Answer, Writer

READS = 7
LOCKS = ("a.gguf.lock", "b.gguf.lock")


@contextmanager
def running(writer: Writer, place: Path, **request: Any) -> Iterator[Future[Answer]]:
    """A run that has begun to write."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(writer.run, place, read_seconds=0.2, **request)
        part, deadline = place / "b.gguf.part", time.monotonic() + 20
        while not (part.exists() and part.stat().st_blocks > 8) and time.monotonic() < deadline:
            time.sleep(0.005)
        yield future


def steal(place: Path, age: float = 0.0) -> bytes:
    """Make the locks another machine's, which looks dead where they are old."""
    text = json.dumps(asdict(replace(Owner.myself(), host="elsewhere"))).encode()
    for name in LOCKS:
        place.joinpath("thief").write_bytes(text)
        os.utime(place / "thief", (time.time() - age,) * 2)
        place.joinpath("thief").replace(place / name)
    return text


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_a_lock_taken_away(writer: Writer, place: Path) -> None:
    with running(writer, place) as future:
        thief = steal(place)
        answer = future.result()
    assert answer.error == "Interrupted"
    assert answer.reads < READS, "it is noticed at once"
    assert "is being written by process" in answer.message
    assert "on elsewhere" in answer.message
    assert (place / "a.gguf.lock").read_bytes() == thief
    assert names(place) == {*LOCKS, "a.gguf.part", "a.gguf.journal", "b.gguf.part"}
    for name in LOCKS:
        (place / name).unlink()
    writer.finish(place)


@pytest.mark.parametrize("fault", [None, {"step": "pwrite b.gguf.part", "at": 7, "how": "EIO"}])
def test_a_lock_taken_away_where_nothing_is_kept(writer: Writer, place: Path, fault: dict[str, Any] | None) -> None:
    """What is there may be the other's by now, so it stays."""
    with running(writer, place, source=None, fault=fault) as future:
        steal(place)
        answer = future.result()
    assert answer.error == "Interrupted"
    assert names(place) == {*LOCKS, "a.gguf.part", "b.gguf.part"}


@pytest.mark.parametrize("recipe", ["test", "another"])
def test_two_writers_at_once_after_all(writer: Writer, place: Path, recipe: str) -> None:
    """A machine that slept wakes up, and another has taken over: the one that sleeps last writes nothing there."""
    with running(writer, place) as future:
        steal(place, age=1000)
        second = writer.run(place, recipe=recipe)
        assert not future.done()
        assert second.done
        after = {path.name: path.read_bytes() for path in place.iterdir()}
        assert future.result().error == "Interrupted"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == after
    assert (after == writer.truth("tiny")) == (recipe == "test")


@pytest.mark.parametrize("source", ["the same", None])
def test_a_name_that_is_taken_meanwhile(writer: Writer, place: Path, source: str | None) -> None:
    with running(writer, place, source=source) as future:
        (place / "b.gguf").write_bytes(b"mine")
        answer = future.result()
    assert answer.error == "Interrupted"
    assert "b.gguf exists and is kept; remove it" in answer.message
    assert (place / "b.gguf").read_bytes() == b"mine"
    if source is None:
        assert names(place) == {"b.gguf"}
        return
    assert names(place) == {"a.gguf.part", "b.gguf.part", "a.gguf.journal", "b.gguf"}
    assert answer.notes == ["100 % is kept: the same command goes on there, --restart forgets it"]
    assert "exists and is kept" in writer.run(place).message
    assert (place / "b.gguf").read_bytes() == b"mine"
    (place / "b.gguf").unlink()
    assert writer.finish(place).reads == 0


def test_a_name_that_is_taken_may_be_overwritten_if_asked(writer: Writer, place: Path) -> None:
    with running(writer, place) as future:
        (place / "b.gguf").write_bytes(b"mine")
        assert not future.result().done
    assert writer.finish(place, options={"force": True}).reads == 0


def test_a_name_that_is_taken_between_runs(writer: Writer, place: Path) -> None:
    fault = {"step": "fsync a.gguf.journal.new", "at": 3, "how": "after"}
    assert writer.run(place, read_seconds=0.1, fault=fault).killed
    (place / "b.gguf").write_bytes(b"mine")
    kept = (place / "a.gguf.journal").read_bytes()
    answer = writer.run(place)
    assert answer.error == "Interrupted"
    assert "exists and is kept" in answer.message
    assert (place / "a.gguf.journal").read_bytes() == kept
    (place / "b.gguf").unlink()
    assert writer.finish(place).reads < READS


@pytest.fixture
def half_named(writer: Writer, place: Path) -> Path:
    """One file has its name, the other is finished and has not."""
    assert writer.run(place, fault={"step": "replace b.gguf.part", "at": 1, "how": "before"}).killed
    assert {"a.gguf", "b.gguf.part"} < names(place)
    return place


def test_half_named(writer: Writer, half_named: Path) -> None:
    assert writer.finish(half_named).reads == 0


def test_half_named_and_the_named_one_is_gone(writer: Writer, half_named: Path) -> None:
    (half_named / "a.gguf").unlink()
    answer = writer.finish(half_named)
    assert "which an earlier run had finished, is gone" in answer.said[0]
    assert answer.reads == READS


def test_half_named_and_the_named_one_is_another(writer: Writer, half_named: Path) -> None:
    """Of the same size, even: an old file of the same model, or somebody's own."""
    mine = bytes((half_named / "a.gguf").stat().st_size)
    (half_named / "a.gguf").write_bytes(mine)
    answer = writer.run(half_named)
    assert answer.error == "Interrupted"
    assert "a.gguf exists and is kept" in answer.message
    assert (half_named / "a.gguf").read_bytes() == mine
    assert writer.finish(half_named, options={"force": True}).reads == READS


def test_finished_files_are_gone(writer: Writer, place: Path) -> None:
    assert writer.run(place, fault={"step": "unlink a.gguf.journal", "at": 2, "how": "before"}).killed
    for name in ("a.gguf", "b.gguf"):
        (place / name).unlink()
    answer = writer.finish(place)
    assert "gone" in answer.said[0]
    assert answer.reads == READS


def test_a_finished_old_file_is_not_taken_for_the_new_one(writer: Writer, place: Path) -> None:
    """Finished, not yet named over an old file of the same size; then the new one is lost."""
    writer.run(place, recipe="tset")
    options = {"force": True}
    assert writer.run(place, options=options, fault={"step": "replace a.gguf.part", "at": 1, "how": "before"}).killed
    assert (place / "a.gguf").stat().st_size == (place / "a.gguf.part").stat().st_size
    (place / "a.gguf.part").unlink()
    writer.finish(place, options=options)


def test_finished_is_finished(writer: Writer, place: Path) -> None:
    assert writer.run(place).done
    for options in ({}, {"restart": True}):
        answer = writer.run(place, options=options)
        assert "exists and is kept" in answer.message
    assert {path.name: path.read_bytes() for path in place.iterdir()} == writer.truth("tiny")
