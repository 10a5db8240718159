"""Where a model goes, as a person and a program ask for it on the command line; nothing is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import metadata, tensors
from nemotron_gguf.ui.cli import app
from nemotron_gguf.ui.memory import parse_context, parse_memory


def nemotron(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
    return ended.returncode, ended.stdout, " ".join(ended.stderr.replace("│", "").split())


def test_a_dry_run_says_what_goes_where(demo_q8: Path) -> None:
    status, out, _ = nemotron("chat", demo_q8, "--dry-run", "--ctx-size", "4000", "--cache-type-k", "q8_0")
    assert status == 0
    first, head, row = out.splitlines()
    assert first.startswith("context 4000 · on the CPU · cache Q8_0/F16 · ")
    assert "left on CPU" in first
    assert head.split()[:5] == ["device", "weights", "cache", "state", "compute"]
    assert row.startswith("CPU (")


def test_a_dry_run_for_programs(demo_q8: Path) -> None:
    status, out, _ = nemotron("chat", demo_q8, "--dry-run", "--json", "--threads", "3")
    described = json.loads(out)
    assert status == 0
    assert described["is_measured"]
    assert described["is_exact"]
    assert described["placement"]["threads"] == 3
    assert described["devices"][0]["weights"] > 5_000_000


@pytest.mark.parametrize(("word", "expected"), [("auto", 3), ("off", 0), ("2", 2)])
def test_guesses_are_in_the_plan(demo_q8: Path, word: str, expected: int) -> None:
    ended = CliRunner().invoke(app, ["chat", str(demo_q8), "--dry-run", "--json", "--lookup", word])
    assert json.loads(ended.stdout)["placement"]["lookup"] == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cache-type-v", "Q8_0", "--flash-attn", "off"), "needs flash attention"),
        (("--cache-type-k", "Q4_K"), "--cache-type-k is Q4_K, expected one of"),
        (("--override-tensor", "exps"), "expected PATTERN=BUFFER"),
        (("--n-gpu-layers", "some"), "is neither a number nor all"),
        (("--lookup", "much"), "is neither a number nor off nor auto"),
        (("--lookup", "9"), "--lookup is 9, expected 0 to 4"),
        (("--rpc", "box"), "expected HOST:PORT"),
        (("--stop", ""), "--stop is empty"),
    ],
)
def test_misuse_is_said_before_anything_is_looked_at(arguments: tuple[str, ...], said: str) -> None:
    ended = CliRunner().invoke(app, ["chat", "none.gguf", "--dry-run", *arguments])
    assert ended.exit_code == 2
    assert said in " ".join(ended.stderr.replace("│", "").split())


@pytest.mark.parametrize(
    ("arguments", "ends", "said"),
    [
        (("--rpc", "127.0.0.1:9"), 1, "no RPC worker answers at 127.0.0.1:9"),
        (("--device", "CUDA0"), 2, "there is no such device"),
        (("--override-tensor", "exps=CUDA0"), 2, "no device has that buffer"),
        (("--logit-bias", "99999=1"), 2, "--logit-bias names token 99999, expected one of the file's, 0 to"),
    ],
)
def test_what_is_not_there_is_one_clear_line(demo_q8: Path, arguments: tuple[str, ...], ends: int, said: str) -> None:
    for way in (["--dry-run"], ["--message", "Hello."]):
        status, out, err = nemotron("chat", demo_q8, *way, *arguments)
        assert status == ends
        assert said in err
        assert len(err.splitlines()) == 1, "no word of loading, which does not begin"
        assert not out


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nano") / "nano.gguf"
    header = encode_header(metadata(), list(tensors()))
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)
    return path


def test_what_would_this_file_need(nano: Path) -> None:
    """63 GB of BF16, which no card holds; a part of it on the processor does."""
    status, out, _ = nemotron("inspect", nano, "--memory", "16GiB", "--context", "256k")
    assert status == 0
    assert "With 262144 tokens of context" in out
    assert "6 KiB a token" in out
    assert "47.6 MiB" in out
    assert "On 16.00 GiB: does not fit" in out
    assert "--n-cpu-moe" in out
    described = json.loads(nemotron("inspect", nano, "--memory", "80G", "--context", "1m", "--json")[1])
    assert described["fits"]
    assert described["cache"] == 6 << 30
    assert described["largest_context"] == 1 << 20
    tight = described["total"] + described["margin"]
    again = json.loads(nemotron("inspect", nano, "--memory", f"{tight}", "--context", "1m", "--json")[1])
    assert (again["fits"], again["largest_context"]) == (True, 1 << 20)
    less = json.loads(nemotron("inspect", nano, "--memory", f"{tight - 1}", "--context", "1m", "--json")[1])
    assert not less["fits"]
    assert less["largest_context"] == (1 << 20) - 256
    assert less["instead"]["moe_layers_on_cpu"] == 1
    one = json.loads(nemotron("inspect", nano, "--context", "64k", "--json")[1])
    four = json.loads(
        nemotron("inspect", nano, "--context", "64k", "--parallel", "4", "--cache-type", "Q8_0", "--json")[1]
    )
    assert four["state"] == 4 * one["state"]
    assert four["cache_per_token"] == one["cache_per_token"] * 34 / 64
    status, _, said = nemotron("inspect", nano, "--cache-type", "Q9")
    assert (status, "--cache-type-k" in said) == (1, True)


def test_sizes_as_people_write_them() -> None:
    assert parse_memory("16GiB") == parse_memory("16 g") == 16 << 30
    assert (parse_memory("16GB"), parse_memory("1.5g"), parse_memory("700m")) == (16 * 10**9, 3 << 29, 700 << 20)
    assert (parse_context("256k"), parse_context("1M"), parse_context("5000")) == (1 << 18, 1 << 20, 5000)
