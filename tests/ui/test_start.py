"""Ctrl-C in the first moments of the program, while it is still being loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
BEGIN = "from nemotron_gguf.ui import start; print('begun', flush=True); start.main()"


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.1, 0.2, 0.4])
def test_it_ends_with_130_and_no_traceback(seconds: float) -> None:
    command = [sys.executable, "-c", BEGIN, "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 1


def test_the_program_begins_there() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"nemotron": "nemotron_gguf.ui.start:main"}
