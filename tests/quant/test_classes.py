"""Classes of tensors: all that the family's models have are known, and the ends stand apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.convert import open_checkpoint, plan_conversion
from nemotron_gguf.quant.classes import Cell, cells_of, class_of
from nemotron_gguf.quant.fit.alternative import Alternative
from nemotron_gguf.tests.conftest import KINDS

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

OTHERS = {"nextn.eh_proj.weight"}  # the draft block has it alone


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_matrix_of_the_family_has_a_class(checkpoints: Checkpoints, kind: str) -> None:
    with open_checkpoint(checkpoints.get(kind)) as checkpoint:
        cells = Alternative(plan_conversion(checkpoint)).cells
    unknown = {tensor.split(".", 2)[2] for cell, tensors in cells.items() if cell.name == "other" for tensor in tensors}
    assert unknown <= OTHERS, kind
    assert {cell.name for cell in cells} >= {"mamba_in", "mamba_out", "embedding"}, kind


@pytest.mark.parametrize(
    ("layers", "first", "middle", "last"),
    [
        ([4], [], [4], []),
        ([3, 8], [3], [], [8]),
        ([1, 4, 6], [1], [4], [6]),
        (list(range(0, 46, 2)), [0, 2], list(range(4, 42, 2)), [42, 44]),
    ],
)
def test_ends_are_an_eighth_of_the_layers(
    layers: list[int], first: list[int], middle: list[int], last: list[int]
) -> None:
    cells = cells_of(f"blk.{layer}.ssm_out.weight" for layer in layers)
    for part, expected in (("first", first), ("middle", middle), ("last", last)):
        names = cells.get(Cell("mamba_out", part), ())  # type: ignore[arg-type]
        assert [int(name.split(".")[1]) for name in names] == expected


def test_names_that_are_no_matrix_of_a_layer() -> None:
    assert class_of("output.weight") == "output"
    assert class_of("blk.3.ffn_up_exps.bias") == "other"
    assert class_of("blk.3.nextn.eh_proj.weight") == "other"
