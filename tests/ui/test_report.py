"""`nemotron build --report`: the page, the errors that it tells, what it takes from earlier runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from nemotron_gguf.convert import open_checkpoint, plan_conversion
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.quant import QuantizeOptions, accuracy, file_type, plan_quantization
from nemotron_gguf.ui import cli

NAME = "checkpoint"  # the demo model's folder


def run(*arguments: str | Path) -> int:
    """The whole program in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nemotron", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo model in three types with a report, one of them measured."""
    at = tmp_path_factory.mktemp("built")
    types = ("--type", "auto", "--type", "Q8_0", "--type", "Q2_K")
    assert run("build", CHECKPOINT, *types, "--out-dir", at, "--report") == 0
    base = at / f"{NAME}-BF16.gguf"
    measured = ("--against", base, "--chunks", "2", "--force")
    assert run("build", CHECKPOINT, "--type", "Q8_0", "--out-dir", at, "--report", *measured) == 0
    yield at


def rows(path: Path, name: str) -> Any:
    """A tensor decoded by gguf-py."""
    tensor = next(tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == name)
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)


@pytest.mark.parametrize("kind", ["Q8_0", "Q2_K"])
def test_errors_are_those_of_the_file(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gguf-py's arithmetic, over all rows; padded columns hold nothing and lose nothing."""
    monkeypatch.setattr(accuracy, "PLACES", 1 << 30)
    with open_checkpoint(CHECKPOINT) as checkpoint:
        plan = plan_quantization(plan_conversion(checkpoint), QuantizeOptions(file_type(kind), pad="auto"))
        found = {error.tensor.name: error for error in accuracy.tensor_errors(plan)}
    assert found["output_norm.weight"].relative is None
    for name in ("blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight", "blk.0.ssm_in.weight", "token_embd.weight"):
        before, after = rows(folder / f"{NAME}-BF16.gguf", name), rows(folder / f"{NAME}-{kind}.gguf", name)
        if after.shape != before.shape and ("token_embd" in name or "_down" in name):
            after *= np.sqrt(224 / 256)  # what writes to the padded stream is as much larger
        after = after[tuple(slice(size) for size in before.shape)]
        expected = np.sqrt(((before - after) ** 2).sum() / (before**2).sum())
        assert found[name].relative == pytest.approx(expected, rel=1e-5)
        assert found[name].n_rows >= np.prod(before.shape[:-1])


def test_samples_tell_the_error_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_checkpoint(CHECKPOINT) as checkpoint:
        plan = plan_quantization(plan_conversion(checkpoint), QuantizeOptions(file_type("Q4_0")))
        sampled = [error.relative for error in accuracy.tensor_errors(plan) if error.relative]
        monkeypatch.setattr(accuracy, "PLACES", 1 << 30)
        whole = [error.relative for error in accuracy.tensor_errors(plan) if error.relative]
    assert len(sampled) == len(whole) > 20
    assert sampled == pytest.approx(whole, rel=0.15)


def test_the_page_tells_of_all_files_and_of_what_was_measured(folder: Path) -> None:
    page = folder.joinpath(f"{NAME}-report.html").read_text(encoding="utf-8")
    for kind in ("BF16", "Q8_0", "Q2_K"):
        assert f"{NAME}-{kind}.gguf" in page
    assert "hidden padded from 224" in page
    assert "KL mean" in page  # of the one that was measured
    assert f"<title>{NAME}-Q8_0: " in page
    assert page.count("relative error, % against layer") == 1  # of the one that was built last
    assert f"nemotron chat {folder / NAME}-Q2_K.gguf" in page
    assert "http" not in page.replace("http-equiv", "")


def test_it_opens_without_a_network_at_any_width(folder: Path, browser: Any) -> None:
    for width, scheme in ((400, "dark"), (1400, "light")):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto(folder.joinpath(f"{NAME}-report.html").as_uri())
        assert len(asked) == 1
        assert not said
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 21)") is (scheme == "dark")
        assert page.locator("figure svg").count() >= 6
        context.close()


def test_scores_of_another_file_are_not_taken(folder: Path, tmp_path: Path) -> None:
    assert run("build", CHECKPOINT, "--type", "Q4_0", "--out-dir", tmp_path) == 0
    scores = folder / f"{NAME}-Q8_0.scores"
    tmp_path.joinpath(f"{NAME}-Q4_0.scores").write_bytes(scores.read_bytes())
    assert run("build", CHECKPOINT, "--type", "Q4_0", "--out-dir", tmp_path, "--force", "--report") == 0
    page = tmp_path.joinpath(f"{NAME}-report.html").read_text(encoding="utf-8")
    assert "KL mean" not in page
    assert "nemotron eval" in page


def test_what_does_not_go_together_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = ("build", CHECKPOINT, "--type", "Q8_0", "--out-dir", tmp_path)
    assert run(*build, "--against", "x.gguf") == 2
    assert run(*build, "--report", "--chunks", "3") == 2
    tmp_path.joinpath(f"{NAME}-report.html").write_text("<p>mine")
    capsys.readouterr()
    assert run(*build, "--report") == 1
    assert "is no report of this program" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.gguf"))


def test_a_program_is_told_where_it_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = ("--split-max-size", "2M")
    assert run("build", CHECKPOINT, "--type", "Q8_0", "--out-dir", tmp_path, "--report", "--json", *split) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1] == {"event": "report", "path": str(tmp_path / f"{NAME}-report.html")}
    assert f"{NAME}-Q8_0-00001-of-" in tmp_path.joinpath(f"{NAME}-report.html").read_text(encoding="utf-8")


def test_a_dry_run_writes_none(tmp_path: Path) -> None:
    assert run("build", CHECKPOINT, "--type", "Q8_0", "--out-dir", tmp_path, "--report", "--dry-run") == 0
    assert not list(tmp_path.iterdir())
