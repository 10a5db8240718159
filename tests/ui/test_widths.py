"""`--pad` and `--trim` on the command line, and what `inspect` tells of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from nemotron_gguf.convert import Output, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.widths import Dimension, padded_from, trimmed_from
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization
from nemotron_gguf.ui import cli

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

ALL = {Dimension.HIDDEN: 224, Dimension.EXPERT: 160, Dimension.SHARED: 192}


class Nemotron:
    """The whole program in this process, in an empty folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str | Path, status: int = 0) -> tuple[str, str]:
        self.monkeypatch.setattr(sys, "argv", ["nemotron", *map(str, arguments)])
        ended = 0
        try:
            cli.main()
        except SystemExit as end:
            ended = end.code if isinstance(end.code, int) else int(bool(end.code))
        out, err = self.capsys.readouterr()
        assert ended == status, (out, err)
        return out, err


@pytest.fixture
def nemotron(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nemotron:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Nemotron(capsys, monkeypatch)


def test_convert_pads_when_told_to(nemotron: Nemotron) -> None:
    nemotron("convert", CHECKPOINT, "a.gguf")
    _, err = nemotron("convert", CHECKPOINT, "b.gguf", "--pad", "all")
    assert "hidden 224 padded to 256, expert 160 padded to 256, shared 192 padded to 256" in err
    assert not padded_from(read_gguf(Path("a.gguf")).metadata)
    assert padded_from(read_gguf(Path("b.gguf")).metadata) == ALL
    shown, _ = nemotron("inspect", "b.gguf")
    assert "Widths: hidden 256 (padded from 224), expert 256 (padded from 160), shared 256 (padded from 192)" in shown
    assert "Sound" in shown
    assert "Widths:" not in nemotron("inspect", "a.gguf")[0]
    told = json.loads(nemotron("inspect", "b.gguf", "--json")[0])["metadata"]
    assert told["nemotron_gguf.padded_from.embedding_length"] == 224


def test_quantize_pads_by_itself_where_it_pays(nemotron: Nemotron) -> None:
    """Q8_0 never; Q2_K of the demo model its hidden size; with `none` a file as llama.cpp's quantizer makes it."""
    nemotron("convert", CHECKPOINT, "a.gguf")
    for kind, pad, expected in (
        ("Q8_0", "auto", {}),
        ("Q3_K_S", "none", {}),
        ("Q2_K", "none", {}),
        ("Q2_K", "auto", {Dimension.HIDDEN: 224}),
        ("Q3_K_S", "all", ALL),
    ):
        nemotron("quantize", "a.gguf", f"{kind}-{pad}.gguf", "--type", kind, "--pad", pad)
        assert padded_from(read_gguf(Path(f"{kind}-{pad}.gguf")).metadata) == expected
        again = json.loads(nemotron("quantize", "a.gguf", "--type", kind, "--pad", pad, "--dry-run", "--json")[0])
        assert again["bytes"] == Path(f"{kind}-{pad}.gguf").stat().st_size
    plan = plan_quantization(plan_of_file("a.gguf"), QuantizeOptions(file_type("Q3_K_S")))
    write_files([Output(plan, Path("plain.gguf"))])
    assert Path("plain.gguf").read_bytes() == Path("Q3_K_S-none.gguf").read_bytes()
    assert Path("Q2_K-auto.gguf").stat().st_size < 0.9 * Path("Q2_K-none.gguf").stat().st_size


def test_build_gives_each_file_its_widths(nemotron: Nemotron) -> None:
    """In one pass, and the same bytes as convert and then quantize."""
    nemotron("build", CHECKPOINT, "--type", "Q8_0", "--type", "Q2_K", "--out-dir", "built")
    nemotron("convert", CHECKPOINT, "a-BF16.gguf")
    for kind in ("Q8_0", "Q2_K"):
        nemotron("quantize", "a-BF16.gguf", f"{kind}.gguf", "--type", kind)
        (built,) = Path("built").glob(f"*{kind}.gguf")
        assert built.read_bytes() == Path(f"{kind}.gguf").read_bytes()


def wide(checkpoints: Checkpoints, folder: Path) -> Path:
    """A file whose experts are just above a multiple of 256, and an importance matrix of it."""
    checkpoint = checkpoints.make(folder / "wide", width=288, shared=320, pattern="ME*E")
    with open_checkpoint(checkpoint) as opened:
        plan = plan_conversion(opened)
        write_files([Output(plan, folder / "wide.gguf")])
    writer = gguf.GGUFWriter(folder / "wide.imatrix.gguf", "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["a.txt"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    rng = np.random.default_rng(0)
    for tensor in plan.tensors:
        if "ffn_down" in tensor.name:
            n_parts = 8 if "exps" in tensor.name else 1
            writer.add_tensor(f"{tensor.name}.in_sum2", rng.gamma(1, 1, (n_parts, tensor.n_per_row)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.counts", np.full((n_parts, 1), 7, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "wide.gguf"


def test_trim(nemotron: Nemotron, checkpoints: Checkpoints, tmp_path: Path) -> None:
    source = wide(checkpoints, tmp_path)
    options = ("quantize", source, "--type", "Q3_K_S", "--trim")
    planned = json.loads(nemotron(*options, "--dry-run", "--json")[0])
    _, err = nemotron(*options, "--imatrix", "wide.imatrix.gguf")
    assert "expert 288 trimmed to 256, shared 320 trimmed to 256" in err
    assert "of the trimmed outputs' energy" in err
    assert "padded instead of trimmed, the file would be" in err
    file = read_gguf(tmp_path / "wide-Q3_K_S.gguf")
    assert trimmed_from(file.metadata) == {Dimension.EXPERT: 288, Dimension.SHARED: 320}
    assert planned["tensors"] == [
        {"name": t.name, "shape": list(t.shape), "type": t.type.name, "bytes": t.nbytes} for t in file.tensors
    ]
    assert "expert 256 (trimmed from 288)" in nemotron("inspect", "wide-Q3_K_S.gguf")[0]
    nemotron(
        "build", tmp_path / "wide", "--type", "Q3_K_S", "--trim", "--imatrix", "wide.imatrix.gguf", "--out-dir", "b"
    )
    (built,) = Path("b").glob("*.gguf")
    assert read_gguf(built).get("nemotron_gguf.trimmed_error") == file.get("nemotron_gguf.trimmed_error")


def test_trim_tells_what_it_lacks(nemotron: Nemotron) -> None:
    nemotron("convert", CHECKPOINT, "a.gguf")
    _, err = nemotron("quantize", "a.gguf", "--type", "Q3_K_S", "--trim", status=2)
    assert "needs an --imatrix" in err
    _, err = nemotron("quantize", "a.gguf", "--type", "Q3_K_S", "--trim", "--dry-run", status=1)
    assert "no width of its experts or MLPs is above a multiple of 256" in err
