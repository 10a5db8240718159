"""`nemotron imatrix`: killed at any time it goes on to the same bytes; what it writes, quantizers take."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nemotron_gguf.models.imatrix import read_imatrix
from nemotron_gguf.tests.runner.conftest import write_tiny

GOLDEN = Path(__file__).parent.parent / "golden" / "imatrix"
DRIVER = """
import sys
from functools import partial
from nemotron_gguf.runner.measure import importance
from nemotron_gguf.ui import cli, imatrix_progress
pause_at = int(sys.argv.pop(1))
importance.collect = partial(importance.collect, save_every=0.0)
real = imatrix_progress.reporting
def lines(*arguments):
    def report(at):
        if at.chunks == pause_at:
            print("NOW", flush=True)
            import time; time.sleep(60)
    import contextlib
    return contextlib.nullcontext(report)
if pause_at >= 0:
    imatrix_progress.reporting = lines
cli.main()
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny-f32.gguf")


def nemotron(*arguments: str | Path, pause_at: int = -1) -> subprocess.Popen[str]:
    """The program in a process of its own; with `pause_at` chunks read it says NOW and waits for what happens."""
    command = [sys.executable, "-c", DRIVER, str(pause_at), "imatrix", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, (process.returncode, err)
    return out, err


def collecting(tiny: Path, out: Path) -> list[str | Path]:
    return [tiny, "--text", GOLDEN / "text.txt", "--ctx-size", "64", "--batch-size", "128", "--ubatch-size", "32",
            "--chunks", "16", "--threads", "1", "--device", "none", "-o", out]  # fmt: skip


def test_raw_is_what_llama_imatrix_writes(tiny: Path, tmp_path: Path) -> None:
    out, _ = finish(nemotron(*collecting(tiny, tmp_path / "raw.gguf"), "--raw", "--json"))
    last = json.loads(out.splitlines()[-1])
    found, golden = read_imatrix(tmp_path / "raw.gguf"), read_imatrix(GOLDEN / "tiny-16.gguf")
    assert (found.chunk_count, found.chunk_size, found.filled) == (16, 64, {})
    assert (golden.chunk_count, golden.chunk_size) == (16, 64)
    assert found.entries.keys() == golden.entries.keys()
    assert (last["event"], last["chunks"], last["entries"]) == ("done", 16, len(golden.entries))
    assert last["coverage"][0]["unreached"], "the text does not reach one of the experts"
    assert [path.name for path in tmp_path.iterdir()] == ["raw.gguf"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_early_it_goes_on_to_the_same_bytes(tiny: Path, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "whole").mkdir()
    finish(nemotron(*collecting(tiny, tmp_path / "whole" / "i.gguf")))
    command = collecting(tiny, tmp_path / "i.gguf")
    process = nemotron(*command, pause_at=8)
    assert process.stdout and process.stdout.readline() == "NOW\n"
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert (tmp_path / "i.gguf.part").exists()
    assert not (tmp_path / "i.gguf").exists()
    (tmp_path / ".i.gguf.part.12345.tmp").write_bytes(b"what a process killed while it saved leaves")
    (tmp_path / ".i.gguf.12345.tmp").write_bytes(b"the same of the matrix itself")
    _, said = finish(nemotron(*command, "--resume"))
    assert "going on after " in said
    assert (tmp_path / "i.gguf").read_bytes() == (tmp_path / "whole" / "i.gguf").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.gguf", "whole"]


def test_what_an_unfinished_run_of_another_kind_left(tiny: Path, tmp_path: Path) -> None:
    process = nemotron(*collecting(tiny, tmp_path / "i.gguf"), pause_at=8)
    assert process.stdout and process.stdout.readline() == "NOW\n"
    process.kill()
    process.communicate(timeout=60)
    other = [*collecting(tiny, tmp_path / "i.gguf"), "--process-output"]
    _, said = finish(nemotron(*other, "--resume"), status=1)
    assert "different in: process_output" in said
    _, said = finish(nemotron(*other))
    assert "beginning anew" in said
    assert "output.weight" in read_imatrix(tmp_path / "i.gguf").entries


MISUSE = {
    "": (2, "expected one of FILE.gguf, --merge, --statistics"),
    "TINY --resume --restart": (2, "contradict"),
    "TINY -o TINY": (2, "is a file to be read"),
    "TINY --text GOLDEN/text.txt -o OUT --resume": (1, "nothing to go on with"),
    "TINY --text GOLDEN/none.txt -o OUT": (1, "cannot be read"),
    "--merge GOLDEN/tiny-3.gguf": (2, "needs --output"),
    "--merge GOLDEN/tiny-3.gguf --merge GOLDEN/demo.gguf -o OUT": (1, "not of one model"),
    "--statistics TINY": (1, "expected an importance matrix"),
}


@pytest.mark.parametrize("line", MISUSE)
def test_bad_input_is_one_line(tiny: Path, tmp_path: Path, line: str) -> None:
    status, words = MISUSE[line]
    places = {"TINY": str(tiny), "OUT": str(tmp_path / "o.gguf"), "GOLDEN": str(GOLDEN)}
    arguments = [re.sub("TINY|OUT|GOLDEN", lambda match: places[match[0]], part) for part in line.split()]
    _, said = finish(nemotron(*arguments), status)
    assert words in " ".join(said.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_merged_filled_and_used(tiny: Path, tmp_path: Path) -> None:
    """One matrix alone is filled; with it the tiny model is quantized, with the raw one of zeros it is refused."""
    finish(nemotron("--merge", GOLDEN / "tiny-3.gguf", "-o", tmp_path / "filled.gguf"))
    out, _ = finish(nemotron("--statistics", tmp_path / "filled.gguf", "--json"))
    shown = json.loads(out)
    assert shown["filled"].keys() == {"blk.2.ffn_up_exps.weight", "blk.2.ffn_down_exps.weight"}
    assert len(shown["tensors"]) == len(read_imatrix(GOLDEN / "tiny-3.gguf").entries)
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "quantize", str(tiny), "--type", "IQ4_NL", "--imatrix",
               str(tmp_path / "filled.gguf"), str(tmp_path / "q.gguf")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "q.gguf").exists()
