"""Python for the model: a program is run in a process of its own, in an empty folder, within bounds."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nemotron_gguf.ui.bounded import Ended, run_bounded
from nemotron_gguf.ui.tools.errors import ToolError

SECONDS = 30.0  # by the clock
BOUNDS = {"seconds": 20, "memory": 1 << 30, "file": 32 << 20, "processes": 32}  # of the processor; bytes; bytes
MOST = 64_000  # bytes of what it prints, and as many of its errors
LONGEST = 100_000  # characters of a program
_SANDBOX = Path(__file__).with_name("sandbox.py")
_KEPT = ("SYSTEMROOT", "PATH")  # of this process's environment


@dataclass(frozen=True, slots=True)
class Holds:
    """What a program cannot do on this system."""

    network: bool
    files: bool
    processes: bool
    resources: bool

    def describe(self) -> str:
        """In words, for a person who is to switch it on."""
        words = {
            "reach no network": self.network,
            "open no files but its own and Python's": self.files,
            "neither see nor outlive its bounds as other processes": self.processes,
            "use only so much memory and processor time": self.resources,
        }
        can, cannot = ([text for text, held in words.items() if held is which] for which in (False, True))
        told = [f"here it can {'; '.join(cannot)}"] if cannot else []
        told += [f"NOT held here: {'; '.join(can)}"] if can else []
        return "; ".join(told)


class PythonTool:
    """Runs a program."""

    name = "run_python"
    description = (
        "Run a Python program and return what it prints; the value of a last expression is printed too. It starts anew"
        f" each time in an empty folder, has no network, and ends after {SECONDS:.0f} seconds."
    )
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "The whole program."}},
        "required": ["code"],
        "additionalProperties": False,
    }
    acts = True

    def call(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """What it printed, its errors, and how it ended where that was not as usual."""
        code = str(arguments["code"])
        if len(code) > LONGEST:
            raise ToolError(f"the program has {len(code):,} characters, at most {LONGEST:,} are run")
        return _told(_run([json.dumps(BOUNDS)], code, SECONDS, stopped))


@cache
def holds() -> Holds:
    """What is held on this system, tried out once. Raises ToolError where no process can be started."""
    ended = _run(["--probe"], "", SECONDS, None)
    try:
        return Holds(**json.loads(ended.out))
    except (ValueError, TypeError) as error:
        raise ToolError(f"Python cannot be run here: {ended.err.decode('utf-8', 'replace')[-300:]}") from error


def _run(arguments: list[str], code: str, seconds: float, stopped: threading.Event | None) -> Ended:
    command = [sys.executable, "-I", "-B", "-X", "utf8", str(_SANDBOX), *arguments]
    with (
        tempfile.TemporaryDirectory(prefix="nemotron-python-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as source,
    ):
        source.write(code.encode("utf-8", "replace"))
        source.seek(0)
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        home = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP"), folder)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            return run_bounded(
                command,
                seconds=seconds,
                most=MOST,
                stdin=source,
                stopped=stopped,
                cwd=Path(folder),
                env={**kept, **one_thread, **home},
            )
        except OSError as error:
            raise ToolError(f"Python cannot be started: {error}") from error


def _told(ended: Ended) -> str:
    out, err = (text.decode("utf-8", "replace").strip("\n") for text in (ended.out, ended.err))
    parts = [out] if out else []
    if err:
        parts.append(f"[errors]\n{err}")
    parts += _end_of(ended)
    return "\n".join(parts) or "The program ended and printed nothing."


def _end_of(ended: Ended) -> list[str]:
    if ended.why != "itself":
        why = {
            "time": f"it took longer than {SECONDS:.0f} seconds",
            "output": f"it printed more than {MOST:,} bytes",
            "stopped": "the person stopped it",
        }[ended.why]
        return [f"[the program was ended: {why}]"]
    number = -ended.status if ended.status < 0 else ended.status - 128
    if number > 0 and number in {one.value for one in signal.Signals}:
        return [f"[the program was ended by {signal.Signals(number).name}: it used up its bounds, or crashed]"]
    return [f"[exit status {ended.status}]"] if ended.status else []
