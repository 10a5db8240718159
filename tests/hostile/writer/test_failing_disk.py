"""Every call of the system that fails, once and for good: one clear line, nothing partial under a final name, and then
the same command on a sound disk ends in the right bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert.writer.journal import Journal

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Answer, Writer

ERRORS = ("ENOSPC", "EIO")


def befallen(writer: Writer, folder: Path, **fault: Any) -> Answer:
    """A run on a failing disk, and another that finishes the work."""
    answer = writer.run(folder, fault=fault)
    assert answer.done or answer.error in ("Interrupted", "ConvertError"), (fault, answer.error, answer.message)
    assert "\n" not in answer.message, fault
    writer.check_names(folder)
    writer.finish(folder)
    shutil.rmtree(folder)
    return answer


@pytest.mark.parametrize("ever", [False, True])
def test_every_call(writer: Writer, place: Path, ever: bool) -> None:
    steps = writer.steps("tiny", place / "undisturbed")
    if ever:
        steps = [(step, at) for step, at in steps if at == 1]  # later ones are among those that fail

    def one(number: int) -> bool:
        step, at = steps[number]
        folder = place / f"{step}-{at}"
        answer = befallen(writer, folder, step=step, at=at, how=ERRORS[(number + ever) % 2], ever=ever)
        name, of = step.split()
        came = answer.seen.count(step) >= at  # how often it flushes depends on its threads
        if came and name in ("pwrite", "ftruncate", "fdatasync", "replace", "write") and not of.endswith(".TOKEN"):
            assert answer.error == "Interrupted", (step, at, answer.error, answer.message)
            assert "No space left on device" in answer.message or "Input/output error" in answer.message
        return answer.error is not None

    assert sum(writer.each(one, range(len(steps)))) > 0.5 * len(steps)


def test_short_writes_are_gone_on_with(writer: Writer, place: Path) -> None:
    """Each call that writes takes half of what it is given, every time."""
    for name in ("pwrite a.gguf.part", "write a.gguf.journal.new"):
        assert writer.run(place / name, fault={"step": name, "at": 1, "how": "short", "ever": True}).done
        writer.check_names(place / name)
        assert (place / name / "a.gguf").read_bytes() == writer.truth("tiny")["a.gguf"]
        assert (place / name / "b.gguf.sha256").read_bytes() == writer.truth("tiny")["b.gguf.sha256"]


def test_what_was_kept_stays_kept(writer: Writer, place: Path) -> None:
    """No failure of the disk in a run that goes on takes away what an earlier run had brought to the disk."""
    kept = place / "kept"
    writer.run(kept, fault={"step": "replace a.gguf.part", "at": 1, "how": "before"})
    shutil.copytree(kept, place / "undisturbed")
    steps = [(step, at) for step, at in writer.steps("tiny", place / "undisturbed") if ".lock" not in step]

    def one(number: int) -> None:
        step, at = steps[number]
        folder = place / str(number)
        shutil.copytree(kept, folder)
        answer = writer.run(folder, fault={"step": step, "at": at, "how": ERRORS[number % 2]})
        if answer.done:
            return
        assert answer.error == "Interrupted", (step, answer.error, answer.message)
        assert folder.joinpath("a.gguf.journal").exists(), step
        again = writer.finish(folder)
        assert again.reads == 0, (step, answer.message, again.said)

    writer.each(one, range(len(steps)))


@pytest.mark.parametrize("step", ["fdatasync a.gguf.part", "fsync a.gguf.journal.new", "write a.gguf.journal.new"])
def test_what_was_not_flushed_is_not_claimed(writer: Writer, place: Path, step: str) -> None:
    """A system reports a lost page once. Who asks again is told that all is well."""
    at = 2 if "journal" in step else 1
    answer = writer.run(place, fault={"step": step, "at": at, "how": "EIO"})
    assert answer.error == "Interrupted"
    found, _ = Journal(place / "a.gguf", {}).read()
    assert found is None  # of another binding
    lines = place.joinpath("a.gguf.journal").read_bytes().split(b"\n")
    assert not any(b'"done"' in line for line in lines[:-1] if step.startswith("fdatasync") or not line), lines
    assert answer.notes == ["0 % is kept: the same command goes on there, --restart forgets it"]
    writer.finish(place)
