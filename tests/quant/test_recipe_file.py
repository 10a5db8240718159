"""Recipe files: what is written is read, what is wrong is refused, and files have the types that the recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from typer.testing import CliRunner

from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant import QuantError, file_type
from nemotron_gguf.quant.classes import PARTS, Cell
from nemotron_gguf.quant.recipe_file import Recipe, read_recipe, recipe_text
from nemotron_gguf.ui.cli import app

WRITTEN = """
name = "mine"
base = "Q4_0"
pad = ["expert"]

[types]
expert_up = "Q3_K"
expert_down = { first = "Q5_0", middle = "IQ4_NL" }
output = "Q8_0"

[tensors]
'blk\\.9\\.ssm' = "Q5_1"
'^blk\\.7\\.ssm_in' = "Q8_0"

[about]
why = "a \\"test\\""
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    types = {Cell("expert_up", part): T.IQ3_S for part in PARTS}
    types |= {Cell("mamba_out", "first"): T.Q6_K, Cell("embedding"): T.Q4_K}
    recipe = Recipe(
        "a \"name\"\\ \n é", file_type("IQ3_S"), types, (r"blk\.1\.=Q8_0",), ("hidden",), ("expert", "shared"),
        {"name": "m.imatrix", "chunks": 12}, {"predicted": 1.25e-7, "odd key": "\x7f\t"},
    )  # fmt: skip
    path = tmp_path / "r.toml"
    path.write_text(recipe_text(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe


def test_files_have_the_types_that_the_recipe_says(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(WRITTEN, encoding="utf-8")
    command = ["build", str(CHECKPOINT), "--recipe", str(path), "--out-dir", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (made,) = json.loads(result.stdout.splitlines()[-1])["files"]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(made["path"]).tensors}
    expected = {
        "blk.1.ffn_up_exps.weight": "Q4_0",  # 224 is no multiple of Q3_K's 256: its relative
        "blk.1.ffn_down_exps.weight": "Q5_0",
        "blk.4.ffn_down_exps.weight": "IQ4_NL",
        "blk.6.ffn_down_exps.weight": "IQ4_NL",
        "blk.9.ffn_down_exps.weight": "Q4_0",  # its last is not named: the base
        "blk.7.ssm_in.weight": "Q8_0",
        "blk.5.ssm_in.weight": "Q4_0",
        "output.weight": "Q8_0",
    }
    assert {name: tensors[name].tensor_type.name for name in expected} == expected
    assert tensors["blk.1.ffn_down_exps.weight"].shape.tolist() == [256, 224, 8]  # innermost first: padded


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = ", "no recipe, expected TOML"),
        ('base = "Q9"', "'Q9' is no file type"),
        ("types = 3", "base is None"),
        ('base = "Q8_0"\ntypes = 3', "types is 3, expected a table"),
        ('base = "BF16"', "expected a file type that quantizes"),
        ('base = "Q8_0"\ncolour = 1', "'colour' is no key of a recipe"),
        ('base = "Q8_0"\n[types]\nexpert = "Q8_0"', "'expert' is no class"),
        ('base = "Q8_0"\n[types]\nexpert_up = "Q9"', "'Q9' is no type"),
        ('base = "Q8_0"\n[types]\nexpert_up = 4', "expert_up is 4"),
        ('base = "Q8_0"\n[types]\nexpert_up = { end = "Q8_0" }', "the part 'end'"),
        ('base = "Q8_0"\npad = ["all"]', "pad is ['all']"),
        ('base = "Q8_0"\n[tensors]\n\'(\' = "Q8_0"', "no regular expression"),
        ('base = "Q8_0"\n[about]\nx = [1]', "about.x is [1]"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(QuantError) as refused:
        read_recipe(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recipe_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dense.toml"
    path.write_text('base = "Q8_0"\n[types]\ndense_up = "Q8_0"\n', encoding="utf-8")
    result = CliRunner().invoke(
        app, ["build", str(CHECKPOINT), "--recipe", str(path), "--out-dir", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, QuantError)
    assert "gives a type to dense_up" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_neither_a_type_nor_a_recipe_is_misuse() -> None:
    assert CliRunner().invoke(app, ["build", str(CHECKPOINT)]).exit_code == 2
