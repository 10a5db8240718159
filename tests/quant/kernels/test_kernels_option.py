"""`--kernels` of quantize and build: the same bytes by all of them, and clear words for a wrong one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import library
from nemotron_gguf.ui import cli

Run = Callable[..., tuple[int, str]]
WISHES = ("auto", *kernels.instruction_sets(), "library")


@pytest.fixture
def nemotron(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The program in this process; returns its status and what it said of errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.setattr(kernels, "_wish", "auto")

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nemotron", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        return status, capsys.readouterr().err

    return run


def test_build_and_quantize_by_each(nemotron: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files; ggml_quantize_chunk is called where `library` is asked for, and only there."""
    calls: list[int] = []
    real = library().ggml_quantize_chunk

    def counted(*given: object) -> object:
        calls.append(1)
        return real(*given)

    monkeypatch.setattr(library(), "ggml_quantize_chunk", counted)
    assert nemotron("convert", CHECKPOINT, "plain.gguf")[0] == 0
    made: set[bytes] = set()
    for wish in WISHES:
        calls.clear()
        assert nemotron("build", CHECKPOINT, "--type", "Q4_K_M", "--out-dir", wish, "--kernels", wish)[0] == 0
        target = f"{wish}.gguf"
        assert nemotron("quantize", "plain.gguf", target, "--type", "q4_k_m", "--kernels", wish)[0] == 0
        assert bool(calls) == (kernels.chosen() == "library"), wish
        made |= {next((tmp_path / wish).glob("*.gguf")).read_bytes(), (tmp_path / target).read_bytes()}
    assert len(made) == 1


@pytest.mark.parametrize("verb", ["quantize", "build"])
def test_a_wrong_word(nemotron: Run, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Misuse on the command line; one clear error from the environment, before anything is read."""
    source = CHECKPOINT if verb == "build" else "not-there.gguf"
    status, said = nemotron(verb, source, "--type", "Q8_0", "--kernels", "fast")
    assert status == 2
    assert "'fast' is not one of 'auto', 'avx2', 'portable', 'library'" in said
    monkeypatch.setenv(kernels.VARIABLE, "fast")
    status, said = nemotron(verb, source, "--type", "Q8_0")
    assert (status, said) == (
        1,
        "nemotron: NEMOTRON_KERNELS is 'fast', expected one of auto, avx2, portable, library\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_run_here_is_misuse(nemotron: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "instruction_sets", lambda: ("portable",))
    status, said = nemotron("build", CHECKPOINT, "--type", "Q8_0", "--kernels", "avx2")
    assert status == 2
    assert "this processor has no AVX2" in said


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("broken", [b"\xc0\x7f", b"\x80\x7f", b"\x80\xff"], ids=["NaN", "inf", "-inf"])
def test_what_is_not_finite_is_named(nemotron: Run, wish: str, broken: bytes, tmp_path: Path) -> None:
    """Tensor and row, from a checkpoint and from a GGUF file; no file is left."""
    row, wanted = 1000, "token_embd.weight holds values that are not finite (NaN or infinity) in row 1000;"
    assert nemotron("convert", CHECKPOINT, "plain.gguf")[0] == 0
    tensor = next(t for t in read_gguf(tmp_path / "plain.gguf").tensors if t.name == "token_embd.weight")
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    raw = (CHECKPOINT / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : (start := 8 + int.from_bytes(raw[:8], "little"))])
    stored = header["backbone.embeddings.weight"]
    n_per_row = stored["shape"][1]
    for path, begin in (
        (tmp_path / "checkpoint" / "model.safetensors", start + stored["data_offsets"][0]),
        (tmp_path / "plain.gguf", tensor.offset),
    ):
        with path.open("r+b") as file:
            file.seek(begin + 2 * (row * n_per_row + 7))
            file.write(broken)
    for arguments in (("build", "checkpoint", "--out-dir", "built"), ("quantize", "plain.gguf", "out.gguf")):
        status, said = nemotron(*arguments, "--type", "Q8_0", "--kernels", wish, "--threads", "1")
        assert status == 1
        assert wanted in said
    assert not [*tmp_path.glob("built/*.gguf"), *tmp_path.glob("out.gguf")]


def test_doctor_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from nemotron_gguf.ui.doctor import examine

    monkeypatch.setenv(kernels.VARIABLE, "portable" if kernels.instruction_sets() else "library")
    assert examine().kernels in ("portable", "missing")
    monkeypatch.setenv(kernels.VARIABLE, "fast")
    report = examine()
    assert report.kernels.startswith("NEMOTRON_KERNELS is 'fast'")
    assert report.kernels in report.advice
