"""kill -9 at every step, half-way through every write, at any moment, again and again: then the same command, the same
bytes as if nothing had been, nothing else left, and at no time a partial file under a final name.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Writer


def killed(writer: Writer, folder: Path, job: str, **fault: Any) -> bool:
    """Whether a run was killed; another then finished the work."""
    answer = writer.run(folder, job, fault=fault)
    assert answer.killed or answer.done, answer
    writer.check_names(folder, job)
    writer.finish(folder, job)
    shutil.rmtree(folder)
    return answer.killed


@pytest.mark.parametrize(("how", "job"), [("before", "tiny"), ("torn", "tiny"), ("before", "split")])
def test_at_every_step(writer: Writer, place: Path, how: str, job: str) -> None:
    """Before each call; in the middle of each that writes. How often it flushes depends on its threads."""
    steps = writer.steps(job, place / "undisturbed")
    if how == "torn":
        steps = [(step, at) for step, at in steps if "write" in step]
    elif job == "split":
        steps = steps[-48:]  # what is not as for other files: the names
    ends = writer.each(
        lambda step: killed(writer, place / f"{step[0]}-{step[1]}", job, how=how, step=step[0], at=step[1]), steps
    )
    missed = {step for step, was_killed in zip(steps, ends, strict=True) if not was_killed}
    assert all(step.split()[0] in ("open", "write", "fsync", "fdatasync") and at > 1 for step, at in missed), missed
    assert len(missed) < len(steps) / 3


def test_at_steps_over_old_files(writer: Writer, place: Path) -> None:
    """The old files stay until the new ones are there."""

    def one(step: tuple[str, int]) -> None:
        folder = place / f"{step[0]}-{step[1]}"
        folder.mkdir(parents=True)
        for name in ("a.gguf", "b.gguf"):
            folder.joinpath(name).write_bytes(b"old")
            folder.joinpath(f"{name}.sha256").write_bytes(b"old")
        writer.run(folder, options={"force": True}, fault={"step": step[0], "at": step[1], "how": "after"})
        writer.check_names(folder, old=b"old")
        assert all(folder.joinpath(name).exists() for name in ("a.gguf", "b.gguf"))
        writer.finish(folder, options={"force": True})

    steps = writer.steps("tiny", place / "undisturbed")
    writer.each(one, [*steps[-40::2], *steps[:-40:8]])


def test_again_and_again(writer: Writer, place: Path) -> None:
    """Kills during the runs that go on after kills."""

    def one(seed: int) -> int:
        chance, folder, kills = random.Random(seed), place / str(seed), 0
        hows = ("before", "torn", "after")
        while writer.run(folder, fault={"at": chance.randint(25, 70), "how": chance.choice(hows)}).killed:
            writer.check_names(folder)
            kills += 1
        writer.finish(folder)
        return kills

    assert sum(writer.each(one, range(10))) > 20


def test_at_ten_moments(writer: Writer, place: Path) -> None:
    """Killed by the clock."""
    start, chance = time.monotonic(), random.Random(10)
    writer.run(place / "undisturbed", read_seconds=0.02)
    seconds = time.monotonic() - start

    def one(number: int) -> bool:
        folder = place / str(number)
        answer = writer.run(folder, read_seconds=0.02, kill_after=chance.uniform(0, seconds))
        writer.check_names(folder)
        writer.finish(folder)
        return answer.killed

    assert sum(writer.each(one, range(10))) > 3
