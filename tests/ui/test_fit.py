"""`nemotron fit`: budgets, cards, recipes that are built, and what is misuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nemotron_gguf.convert import ConvertError
from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.divergences import read_divergences
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.needs import needs_of
from nemotron_gguf.quant import QuantError
from nemotron_gguf.ui.cli import app
from nemotron_gguf.ui.fit.goal import use_with
from nemotron_gguf.ui.fit.room import longest_context, sum_of
from nemotron_gguf.ui.memory import describe_needs


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEMOTRON_HOME", str(tmp_path / "library"))


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["fit", str(CHECKPOINT), "--json", "--no-sample", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_size_gives_a_recipe_that_builds_to_the_byte(tmp_path: Path) -> None:
    found = run("--bpw", "5", "-o", "five.toml")
    built = CliRunner().invoke(app, ["build", str(CHECKPOINT), "--recipe", "five.toml", "--out-dir", "out", "--json"])
    assert built.exit_code == 0, built.output
    (path,) = (tmp_path / "out").glob("*.gguf")
    assert path.stat().st_size == found["chosen"]["bytes"]
    assert found["chosen"]["bits_per_weight"] <= 5
    assert path.name == "checkpoint-5bpw.gguf"


def test_apply_goes_on_to_build() -> None:
    result = CliRunner().invoke(app, ["fit", str(CHECKPOINT), "--size", "3.4MB", "--no-sample", "--apply"])
    assert result.exit_code == 0, (result.output, result.exception)
    (path,) = Path("library").glob("*.gguf")
    assert 3_200_000 < path.stat().st_size <= 3_400_000


def test_what_fits_a_card_is_what_inspect_says(tmp_path: Path) -> None:
    """The sum of fit against the one of inspect, which follows libllama's placement."""
    found = run("--memory", "24MiB", "--reserve", "0", "--context", "4096", "-o", "card.toml")
    CliRunner().invoke(app, ["build", str(CHECKPOINT), "--recipe", "card.toml", "--out-dir", str(tmp_path)])
    (path,) = tmp_path.glob("*.gguf")
    file = read_gguf(path)
    told = describe_needs(file, None, 4096)
    use = use_with(4096, 1, None)
    ours = sum_of(needs_of(file), use)
    assert (ours.weights, ours.cache, ours.state, ours.compute) == tuple(
        told[part] for part in ("weights", "cache", "state", "compute")
    )
    assert ours.total <= 24 << 20
    assert ours.host == told["host"]
    assert found["chosen"]["context"] == longest_context(needs_of(file), use, 24 << 20) >= 4096


def test_a_card_costs_no_embedding_and_a_larger_one_is_never_worse() -> None:
    losses = []
    for memory in ("19MiB", "21MiB", "26MiB"):
        found = run("--memory", memory, "--reserve", "0", "--context", "4k", "-o", f"{memory}.toml")
        losses.append(found["chosen"]["predicted"])
        assert found["chosen"]["types"]["embedding"] == "Q8_0"
    assert losses == sorted(losses, reverse=True)


def test_cards_have_two_lines_each() -> None:
    rows = run("--list-cards")["cards"]
    assert [row["memory"] >> 30 for row in rows] == [8, 8, 12, 12, 16, 16, 24, 24, 32, 32]
    assert [row["use"] for row in rows[:2]] == ["free", "desktop"]
    for row in rows:
        parts = sum(row[part] for part in ("weights", "cache", "state", "compute"))
        assert parts <= row["memory"] - row["reserve"]


def test_a_table_changes_the_choice() -> None:
    head = {"format": "nemotron-gguf divergences", "version": 1, "name": "m", "source": "", "imatrix": "", "text": "",
            "ctx_size": 512, "chunks": 2}  # fmt: skip
    dear = [{"changed": "expert_up=Q4_0", "mean": 0.5, "error": 0.01, "tokens": 100}]
    dear += [{"changed": "mamba_in=Q4_0", "mean": 1e-6, "error": 0.0, "tokens": 100}]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (head, *dear)), encoding="utf-8")
    plain = run("--bpw", "6", "-o", "a.toml")["chosen"]["types"]
    found = run("--bpw", "6", "-o", "b.toml", "--table", "t.jsonl")["chosen"]["types"]
    assert found != plain
    assert found["expert_up"] in ("Q8_0", "BF16")
    assert found["mamba_in"] in ("MXFP4", "IQ4_NL", "Q4_0")


def test_a_table_of_another_model_is_left_out_with_a_word() -> None:
    """It lies there by its name alone: every folder called `checkpoint` would find it."""
    head = {"format": "nemotron-gguf divergences", "version": 1, "name": "m", "source": "0123", "imatrix": "",
            "text": "", "ctx_size": 512, "chunks": 2}  # fmt: skip
    dear = {"changed": "expert_up=Q4_0", "mean": 0.5, "error": 0.01, "tokens": 100}
    plain = run("--bpw", "6", "-o", "a.toml")["chosen"]["types"]
    Path("checkpoint.divergences.jsonl").write_text(f"{json.dumps(head)}\n{json.dumps(dear)}\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["fit", str(CHECKPOINT), "--json", "--no-sample", "--bpw", "6", "-o", "b.toml"])
    assert json.loads(result.stdout)["chosen"]["types"] == plain
    assert "other files (m)" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--bpw", "4", "--size", "3MB"],
        ["--memory", "lots"],
        ["--size", "3"],
        ["--memory", "1GiB", "--reserve", "2GiB"],
        ["--memory", "1GiB", "--cache-type", "Q9"],
        ["--memory", "1GiB", "--context", "3"],
        ["--bpw", "4", "--allow-trim"],
    ],
)
def test_misuse_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["fit", str(CHECKPOINT), *arguments]).exit_code == 2


def test_what_cannot_fit_is_one_line_with_a_way_out() -> None:
    result = CliRunner().invoke(app, ["fit", str(CHECKPOINT), "--size", "1MB", "--no-sample"])
    assert isinstance(result.exception, QuantError)
    assert "the smallest takes" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list(Path().glob("*.toml"))


def test_nothing_is_replaced_without_force() -> None:
    Path("x.toml").write_text("mine", encoding="utf-8")
    result = CliRunner().invoke(app, ["fit", str(CHECKPOINT), "--bpw", "5", "--no-sample", "-o", "x.toml"])
    assert "exists already" in str(result.exception)
    assert Path("x.toml").read_text(encoding="utf-8") == "mine"


def test_a_page_is_written_with_the_plot() -> None:
    run("--bpw", "5", "-o", "x.toml", "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_calibrating_measures_the_chosen_file_and_goes_on_with_its_table(tmp_path: Path) -> None:
    """The whole way, with few tokens: a table, a search, a recipe whose file's divergence was measured."""
    wish = ["--calibrate", "--bpw", "5.5", "--chunks", "2", "--types-per-class", "1", "--threads", "1"]
    wish += ["--work", str(tmp_path / "work"), "--table", str(tmp_path / "table.jsonl")]
    found = run(*wish, "-o", "first.toml")
    chosen = found["chosen"]
    assert chosen["bits_per_weight"] <= 5.5
    assert 0 < chosen["measured"]["mean"] < 1
    table = read_divergences(tmp_path / "table.jsonl")
    assert len(table.cells) > 10
    again = run(*wish, "-o", "again.toml")
    assert again["chosen"] == chosen
    assert read_divergences(tmp_path / "table.jsonl") == table, "nothing was measured twice"
    assert not list((tmp_path / "work").rglob("whole-*.gguf")), "files that were tried are removed"


def test_two_runs_do_not_fill_one_table(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    with Lock(table):
        result = CliRunner().invoke(
            app, ["fit", str(CHECKPOINT), "--bpw", "5", "--calibrate", "--table", str(table), "--work", str(tmp_path)]
        )
    assert isinstance(result.exception, ConvertError)
    assert f"process {os.getpid()} on" in str(result.exception)
    assert not table.exists()
    assert not list(tmp_path.glob("*.toml"))
