"""The command line as a person and a program meet it: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.ui import cli

VERBS = ("convert", "quantize", "build", "inspect", "verify", "pull", "models", "chat", "ui", "demo", "doctor")


@dataclass(frozen=True)
class Ended:
    """How a run ended and what it printed."""

    status: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str | Path) -> Ended: ...


@pytest.fixture
def nemotron(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The whole program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NEMOTRON_HOME", str(tmp_path / "library"))

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["nemotron", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches(nemotron: Run, verb: str) -> None:
    ended = nemotron(verb, "--help")
    assert ended.status == 0
    assert f"nemotron {verb}" in ended.out
    assert "Example" in ended.out


def test_help_lists_the_verbs_in_the_order_of_the_work(nemotron: Run) -> None:
    out = nemotron("--help").out
    places = [out.index(f" {verb} ", out.index("Commands")) for verb in VERBS]
    assert places == sorted(places)


def test_version(nemotron: Run) -> None:
    assert nemotron("--version").out.startswith("nemotron-gguf 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["convert"],
        ["quantize", "a.gguf"],
        ["quantize", "a.gguf", "--type", "Q9_Z"],
        ["quantize", "a.gguf", "--type", "Q4_K_M", "--tensor-type", "ffn_down"],
        ["quantize", "a.gguf", "--type", "Q4_K_M", "--tensor-type", "ffn_(=Q8_0"],
        ["quantize", "a.gguf", "--type", "Q4_K_M", "--output-tensor-type", "Q4_K_M"],
        ["quantize", "a.gguf", "--type", "Q4_K_M", "--threads", "0"],
        ["build", str(CHECKPOINT)],
        ["convert", str(CHECKPOINT), "--outtype", "q8_0"],
        ["inspect"],
        ["inspect", "a.gguf", "--frobnicate"],
        ["convert", str(CHECKPOINT), "--split-max-size", "1.5G"],
        ["quantize", "a.gguf", "--type", "Q8_0", "--split-max-size", "0"],
        ["build", str(CHECKPOINT), "--type", "Q8_0", "--split-max-size", "many"],
        ["chat", "a.gguf", "--n-gpu-layers", "most"],
        ["chat", "a.gguf", "--ctx-size", "0"],
        ["ui", "a.gguf", "--port", "70000"],
        ["chat", "a.gguf", "--ctx-size", "100000000"],
        ["chat", "a.gguf", "--temperature", "inf"],
        ["chat", "a.gguf", "--seed", "99999999999999999999"],
        ["chat", "a.gguf", "--message", " "],
        ["build", str(CHECKPOINT), "--type", "Q8_0", "--type", "q8_0", "--out-dir", "twice"],
    ],
    ids=" ".join,
)
def test_misuse_is_two(nemotron: Run, tmp_path: Path, arguments: list[str]) -> None:
    ended = nemotron(*arguments)
    assert ended.status == 2
    assert ended.err
    assert "Traceback" not in ended.err
    assert files(tmp_path) == []


BAD = ("missing", "folder", "text", "empty", "cut")
TAKES_A_FILE: Mapping[str, list[str]] = {
    "quantize": ["quantize", "FILE", "--type", "Q8_0"],
    "inspect": ["inspect", "FILE"],
    "chat": ["chat", "FILE", "--message", "hello"],
    "ui": ["ui", "FILE"],
    "imatrix": ["build", str(CHECKPOINT), "--type", "Q4_K_M", "--imatrix", "FILE"],
}


@pytest.mark.parametrize("verb", TAKES_A_FILE)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line(nemotron: Run, tmp_path: Path, demo_q8: Path, verb: str, kind: str) -> None:
    path = tmp_path / "bad.gguf"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        whole = demo_q8.read_bytes()
        path.write_bytes({"text": b"hello, I am no model\n" * 9, "empty": b"", "cut": whole[:-5000]}[kind])
    ended = nemotron(*[str(path) if part == "FILE" else part for part in TAKES_A_FILE[verb]])
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith("nemotron: ")
    assert str(path) in ended.err
    assert "Traceback" not in ended.err
    assert files(tmp_path) == ([] if kind == "missing" else ["bad.gguf"])


@pytest.mark.parametrize("verb", [["convert"], ["build", "--type", "Q8_0"]], ids=["convert", "build"])
@pytest.mark.parametrize("kind", ["missing", "empty folder", "a file", "no json", "no weights", "cut weights"])
def test_a_bad_checkpoint_is_one_line(nemotron: Run, tmp_path: Path, verb: list[str], kind: str) -> None:
    source = tmp_path / "source"
    if kind == "a file":
        source.write_text("hello")
    elif kind != "missing":
        source.mkdir()
    if kind in ("no json", "no weights", "cut weights"):
        for path in CHECKPOINT.iterdir():
            (source / path.name).write_bytes(path.read_bytes())
    if kind == "no json":
        (source / "config.json").write_text("{'hidden_size': 1")
    if kind == "no weights":
        (source / "model.safetensors").unlink()
    if kind == "cut weights":
        weights = source / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    ended = nemotron(verb[0], source, *verb[1:])
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith("nemotron: ")
    assert "Traceback" not in ended.err
    assert [name for name in files(tmp_path) if name != "source"] == []


def test_dry_run_prints_the_plan_and_writes_nothing(nemotron: Run, tmp_path: Path) -> None:
    """The plan of a dry run is the file that is written afterwards."""
    planned = json.loads(nemotron("build", CHECKPOINT, "--type", "Q4_K_M", "--dry-run", "--json").out)
    assert files(tmp_path) == []
    done = json.loads(nemotron("build", CHECKPOINT, "--type", "Q4_K_M", "--json").out)
    path = Path(done["files"][0]["path"])
    written = read_gguf(path)
    assert planned["bytes"] == path.stat().st_size == done["files"][0]["bytes"]
    assert planned["tensors"] == [
        {"name": t.name, "shape": list(t.shape), "type": t.type.name, "bytes": t.nbytes} for t in written.tensors
    ]
    assert set(planned["tensors"][0]) == {"name", "shape", "type", "bytes"}


def test_convert_then_quantize_is_build(nemotron: Run, tmp_path: Path) -> None:
    assert nemotron("convert", CHECKPOINT, "a-BF16.gguf").status == 0
    dry = json.loads(nemotron("quantize", "a-BF16.gguf", "--type", "q4_k_m", "--dry-run", "--json").out)
    assert nemotron("quantize", "a-BF16.gguf", "--type", "q4_k_m", "--threads", "1").status == 0
    assert nemotron("quantize", "a-BF16.gguf", "eight.gguf", "--type", "Q8_0").status == 0
    assert nemotron("build", CHECKPOINT, "--type", "Q4_K_M", "--type", "Q8_0", "--out-dir", "built").status == 0
    built = {path.name.rpartition("-")[2]: path.read_bytes() for path in (tmp_path / "built").iterdir()}
    assert (tmp_path / "a-Q4_K_M.gguf").read_bytes() == built["Q4_K_M.gguf"]
    assert (tmp_path / "eight.gguf").read_bytes() == built["Q8_0.gguf"]
    assert dry["bytes"] == len(built["Q4_K_M.gguf"])


def test_nothing_is_overwritten_without_force(nemotron: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine.gguf"
    target.write_bytes(b"mine")
    ended = nemotron("convert", CHECKPOINT, target)
    assert ended.status == 1
    assert "--force" in ended.err
    assert target.read_bytes() == b"mine"
    assert files(tmp_path) == ["mine.gguf"]
    assert nemotron("convert", CHECKPOINT, target, "--force").status == 0
    assert read_gguf(target).architecture == "nemotron_h_moe"


def test_a_file_is_not_quantized_onto_itself(nemotron: Run, tmp_path: Path) -> None:
    assert nemotron("convert", CHECKPOINT, "a.gguf").status == 0
    before = (tmp_path / "a.gguf").read_bytes()
    assert nemotron("quantize", "a.gguf", "a.gguf", "--type", "Q8_0", "--force").status == 2
    assert (tmp_path / "a.gguf").read_bytes() == before


def test_a_checkpoint_is_not_converted_onto_itself(nemotron: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in CHECKPOINT.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    before = (source / "model.safetensors").read_bytes()
    assert nemotron("convert", source, source / "model.safetensors", "--force").status == 2
    assert (source / "model.safetensors").read_bytes() == before


def test_quantized_sources_and_missing_imatrix_are_refused(nemotron: Run, demo_q8: Path) -> None:
    again = nemotron("quantize", demo_q8, "b.gguf", "--type", "Q4_0")
    assert again.status == 1
    assert "--allow-requantize" in again.err
    assert nemotron("quantize", demo_q8, "b.gguf", "--type", "Q4_0", "--allow-requantize").status == 0
    assert nemotron("build", CHECKPOINT, "--type", "IQ2_XXS", "--pure").status in (0, 1)


def test_inspect_tells_everything_as_json(nemotron: Run, demo_q4: Path) -> None:
    seen = json.loads(nemotron("inspect", demo_q4, "--json", "--tensors").out)
    assert seen["architecture"] == "nemotron_h_moe"
    assert seen["bytes"] == demo_q4.stat().st_size
    assert sum(row["tensors"] for row in seen["types"].values()) == len(seen["tensors"])
    assert len(seen["metadata"]["tokenizer.ggml.tokens"]) == seen["metadata"]["nemotron_h_moe.vocab_size"]
    plain = nemotron("inspect", demo_q4, "--tensors").out
    assert "token_embd.weight" in plain
    assert plain.isprintable() or set(plain) - {"\n"} == {char for char in plain if char.isprintable()}


def test_doctor_as_json(nemotron: Run) -> None:
    report = json.loads(nemotron("doctor", "--json").out)
    assert report["llama_cpp"] == "loads"
    assert any(device["kind"] == "CPU" for device in report["devices"])
    assert report["packages"]["llama-cpp-python"].startswith("0.3.")
    assert report["disk_free"] > 0


@pytest.mark.skipif(os.name == "nt", reason="a limit on the size of files needs a POSIX system")
def test_no_room_in_the_middle(tmp_path: Path) -> None:
    """A disk that fills up, by a limit on the size of files: one line, and nothing is left."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "from nemotron_gguf.ui.cli import main; sys.argv[0] = 'nemotron'; main()"
    )
    folder = str(tmp_path / "new")
    command = [sys.executable, "-c", code, "build", str(CHECKPOINT), "--type", "Q8_0", "--out-dir", folder]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "File too large" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert files(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file(nemotron: Run, tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    ended = nemotron("inspect", path)
    assert ended.status == 1
    assert "Permission denied" in ended.err
