"""Ctrl-C and a polite kill: at every step what is done is kept, it is said how to go on, and the program ends at once.

"At once" is two seconds, and as much more as this machine, which may have more to do, needs for other things now.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Writer

ENDS = {"SIGINT": ("KeyboardInterrupt", ""), "SIGTERM": ("SystemExit", "143")}
AT_ONCE = 2.0


def test_at_every_step(writer: Writer, place: Path) -> None:
    start = time.monotonic()
    steps = writer.steps("tiny", place / "undisturbed")[::2]
    limit = AT_ONCE + 10 * (time.monotonic() - start)  # others run beside it

    def one(number: int) -> tuple[str, bool, bool]:
        (step, at), name = steps[number], tuple(ENDS)[number % 2]
        folder = place / f"{step}-{at}"
        answer = writer.run(folder, fault={"step": step, "at": at, "how": name})
        assert answer.done or (answer.error, answer.message) == ENDS[name], (step, answer)
        writer.check_names(folder)
        kept = folder.joinpath("a.gguf.journal").exists()
        if not answer.done:
            assert answer.seconds < limit, step
            assert kept == any("the same command goes on there" in note for note in answer.notes), (step, answer.notes)
            assert kept or not list(folder.glob("*.part")), step
            assert not list(folder.glob("*.lock*")), step
        writer.finish(folder)
        shutil.rmtree(folder)
        return step, answer.done, kept

    ends = writer.each(one, range(len(steps)))
    assert sum(not done for _, done, _ in ends) > 0.8 * len(ends)
    assert sum(kept for _, _, kept in ends) > 0.5 * len(ends)


@pytest.mark.parametrize("name", ENDS)
def test_at_moments(writer: Writer, place: Path, name: str) -> None:
    """By the clock, while reading takes its time."""

    def one(number: int) -> bool:
        folder = place / str(number)
        came = signal.Signals[name].value
        answer = writer.run(folder, read_seconds=0.1, kill_after=number * 0.15, signal=came)
        assert answer.done or (answer.error, answer.message) == ENDS[name], answer
        writer.check_names(folder)
        writer.finish(folder)
        return answer.done

    assert not all(writer.each(one, range(6)))


HANGS = """
import signal, sys, threading, time
from pathlib import Path
import numpy as np
from nemotron_gguf.convert.writer import chunks
from nemotron_gguf.convert.writer import run
from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.ui import cli
from nemotron_gguf.ui.writing import Job, Wishes, make

chunks.READ_WEIGHTS, run.FLUSH_SECONDS = 256 * 16, 0.0
how = sys.argv[2]
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may not want it

class Hanging:
    type, n_rows, n_per_row = GGMLType.F32, 160, 256
    def read(self, first, last):
        if first >= 80 and how != "sound":
            print("NOW", flush=True)
            threading.Event().wait()
        return np.full((last - first, 1024), first % 251, np.uint8)

class Failing(Cast):
    def encode(self, rows, source, n_per_row, first_row):
        if how == "lost" and first_row >= 64:
            time.sleep(0.5)  # by now another read hangs
            raise Interrupted("the network is lost")
        return super().encode(rows, source, n_per_row, first_row)

plan = FilePlan({}, (TensorPlan("x", (160, 256), (Hanging(),), Failing(GGMLType.F32)),))
cli.app = lambda: make([Job(plan, Path(sys.argv[1]))], Wishes("Making", {"seed": 1}, threads=1))
cli.main()
"""


def hanging(target: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HANGS, str(target), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to another process")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "lost"])
def test_a_read_that_hangs_does_not_hold_the_program(tmp_path: Path, how: str) -> None:
    """Real programs to their very end: nobody waits for the thread that hangs."""
    start = time.monotonic()
    process = hanging(tmp_path / "a.gguf", how)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("NOW")
    time.sleep(0.3)
    limit = AT_ONCE + time.monotonic() - start
    start = time.monotonic()
    if how != "lost":
        process.send_signal(signal.Signals[how])
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < limit
    assert process.returncode == {"SIGINT": -signal.SIGINT, "SIGTERM": 143, "lost": 1}[how]
    assert "% is kept: the same command goes on there, --restart forgets it" in err.replace("\n", " ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf.journal", "a.gguf.part"]
    _, err = hanging(tmp_path / "a.gguf", "sound").communicate(timeout=60)
    assert "going on where an earlier run ended" in err
    assert hanging(tmp_path / "b.gguf", "sound").wait(60) == 0
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
