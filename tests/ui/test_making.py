"""`convert`, `quantize` and `build` when they end early, in parts, or for a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemotron_gguf.convert.errors import Interrupted
from nemotron_gguf.convert.writer.part_file import PartFile
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.quant import plan_of_file

BUILD = ("build", str(CHECKPOINT), "--type", "Q4_K_M", "--type", "Q8_0", "--threads", "1", "--out-dir")
DRIVER = """
import sys
from nemotron_gguf.convert.writer import chunks
from nemotron_gguf.convert.writer import run
from nemotron_gguf.ui import cli
chunks.READ_WEIGHTS, run.FLUSH_SECONDS = 50_000, 0.0
fail_at = int(sys.argv.pop(1))
real, calls = run.encode, 0
def encode(*arguments):
    global calls
    calls += 1
    if calls == fail_at:
        print("NOW", flush=True)
        import time; time.sleep(60)
    return real(*arguments)
run.encode = encode
cli.main()
"""


def nemotron(*arguments: str, fail_at: int = -1) -> subprocess.Popen[str]:
    """The program in a process of its own; at its `fail_at`-th chunk it says NOW and waits for what happens."""
    command = [sys.executable, "-c", DRIVER, str(fail_at), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    status, _, err = finish(nemotron(*BUILD, str(folder)))
    assert status == 0, err
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to another process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_run_that_ends_early_goes_on(tmp_path: Path, undisturbed: dict[str, bytes], name: str) -> None:
    process = nemotron(*BUILD, str(tmp_path), fail_at=60)
    assert process.stdout is not None
    assert process.stdout.readline() == "NOW\n"
    refused = finish(nemotron(*BUILD, str(tmp_path)))
    assert refused[0] == 1
    assert f"process {process.pid}" in refused[2]
    assert not list(tmp_path.glob("*.gguf"))
    process.send_signal(signal.Signals[name])
    if name != "SIGKILL":
        time.sleep(0.2)  # it waits for its worker, which sleeps
    process.kill()
    finish(process)
    assert not list(tmp_path.glob("*.gguf"))
    status, _, err = finish(nemotron(*BUILD, str(tmp_path)))
    assert status == 0, err
    assert "going on where an earlier run ended" in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == undisturbed


def test_a_fault_of_the_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nemotron_gguf.ui import cli

    def broken(*_: object) -> None:
        raise Interrupted("writing failed: No space left on device")

    monkeypatch.setattr(PartFile, "write", broken)
    monkeypatch.setattr(sys, "argv", ["nemotron", *BUILD, str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "No space left" in said
    assert list(tmp_path.iterdir()) == [], "there was nothing yet to keep"


def test_another_recipe_starts_afresh_and_restart_forgets(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    for extra, words in ((("--leave-output-tensor",), "another recipe"), (("--restart",), "")):
        process = nemotron(*BUILD, str(tmp_path), fail_at=40)
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        finish(process)
        status, _, err = finish(nemotron(*BUILD, str(tmp_path), *extra))
        assert status == 0, err
        assert words in err
        assert "going on" not in err
        made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert set(made) == set(undisturbed)
        assert (made == undisturbed) == (not words)
        for path in tmp_path.iterdir():
            path.unlink()


def test_json_lines_tell_progress_and_result(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    script = DRIVER.replace("cli.main()", "from nemotron_gguf.ui import writing; writing.EVERY = 0.0; cli.main()")
    command = [sys.executable, "-c", script, "-1", *BUILD, str(tmp_path), "--json"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    assert {line["phase"] for line in lines[:-1]} == {"writing", "verifying"}
    last = [line for line in lines[:-1] if line["phase"] == "writing"][-1]
    assert last["done"] == last["total"]
    assert {file["path"] for file in last["files"]} == {file["path"] for file in lines[-1]["files"]}
    assert lines[-1]["event"] == "done"
    assert [file["bytes"] for file in lines[-1]["files"]] == [
        len(undisturbed[Path(file["path"]).name]) for file in lines[-1]["files"]
    ]


def test_split_files_are_one_model(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    status, out, err = finish(nemotron(*BUILD, str(tmp_path), "--split-max-size", "2M"))
    assert status == 0, err
    firsts = sorted(tmp_path.glob("*-00001-of-*.gguf"))
    assert len(firsts) == 2
    for first in firsts:
        whole = plan_of_file(first)
        name = first.name.partition("-00001")[0] + ".gguf"
        assert whole.header.data == undisturbed[name][: len(whole.header.data)]
        assert sum(tensor.nbytes for tensor in whole.tensors) == sum(
            tensor.nbytes for part in tmp_path.glob(first.name.replace("00001", "*", 1)) if part.suffix == ".gguf"
            for tensor in read_gguf(part).tensors
        )  # fmt: skip
    assert len(out.splitlines()) == len(list(tmp_path.glob("*.gguf")))
    seen = json.loads(finish(nemotron("inspect", str(firsts[0]), "--json", "--tensors"))[1])
    assert len(seen["tensors"]) == len(plan_of_file(firsts[0]).tensors), "the first part stands for the model"


def test_a_dry_run_shows_the_parts(tmp_path: Path) -> None:
    status, out, err = finish(nemotron(*BUILD, str(tmp_path), "--split-max-size", "2M", "--dry-run"))
    assert status == 0, err
    planned = [line.split()[0] for line in out.splitlines()]
    assert list(tmp_path.iterdir()) == []
    assert finish(nemotron(*BUILD, str(tmp_path), "--split-max-size", "2M"))[0] == 0
    assert sorted(planned) == sorted(str(path) for path in tmp_path.glob("*.gguf"))
    assert finish(nemotron(*BUILD, str(tmp_path), "--split-max-size", "2X", "--dry-run"))[0] == 2


def test_a_set_without_its_first_part_is_made_whole(tmp_path: Path) -> None:
    build = (*BUILD[:4], "--split-max-size", "2M", "--out-dir", str(tmp_path))
    assert finish(nemotron(*build))[0] == 0
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    status, _, err = finish(nemotron(*build))
    assert status == 1
    assert "--force" in err
    next(tmp_path.glob("*-00001-of-*.gguf")).unlink()
    assert finish(nemotron(*build))[0] == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_an_error_is_a_line_of_json_too(tmp_path: Path) -> None:
    status, out, err = finish(nemotron("build", str(tmp_path / "nowhere"), "--type", "Q8_0", "--json"))
    assert status == 1
    told = json.loads(out)
    assert told["event"] == "error"
    assert told["message"] in " ".join(err.split())
