"""Variants in parts measure what whole files measure, and a table is gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from nemotron_gguf.convert import Output, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.divergences import Divergence, Divergences, Setting, read_divergences
from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.fit.agenda import Measurement
from nemotron_gguf.quant.fit.alternative import Alternative, planned
from nemotron_gguf.quant.fit.variants import InParts
from nemotron_gguf.runner.measure.measurer import Measurer
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.ui.fit.calibrate import Bench, calibrate


def test_a_variant_in_parts_is_the_whole_file(tmp_path: Path) -> None:
    """The divergence of parts under one name equals, to the bit, that of one file with the same types."""
    types = {Cell("expert_up"): T.Q4_0, Cell("output"): T.Q5_1, Cell("mamba_out", "first"): T.Q2_K}
    with open_checkpoint(CHECKPOINT) as checkpoint, Measurer(Window(n_ctx=64, threads=1)) as measurer:
        source = Alternative(plan_conversion(checkpoint))
        parts = InParts(source, None)
        reference_file, whole = tmp_path / "reference.gguf", tmp_path / "whole.gguf"
        every = {cell: parts.type_of(cell, types) for cell in source.cells}
        write_files([Output(source.plan, reference_file), Output(planned(source, every, None), whole)])
        material = measurer.read(reference_file, ["What is 8 + 5? Eight and five are thirteen. " * 40], 4)
        reference = measurer.reference(reference_file, material, tmp_path / "logits")
        bench = Bench(tmp_path / "work", parts, measurer, reference)
        bench.prepare()
        base = sorted(path.name for path in bench.folder.iterdir())
        found, nothing = bench.measure(types), bench.measure({})
        expected = measurer.evaluate(whole, reference).divergence.kl_mean
    assert found.mean == expected.value > 1e-4
    assert nothing.mean == 0
    assert sorted(path.name for path in bench.folder.iterdir()) == base, "what a variant is made of is removed"


class Counting:
    """A bench that fails at its third measurement."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def measure(self, types: Any) -> Divergence:
        self.asked.append(types)
        if len(self.asked) == 3:
            raise KeyboardInterrupt
        return Divergence(float(len(self.asked)), 0.5, 10)


def test_a_table_is_gone_on_with(tmp_path: Path) -> None:
    plan = [Measurement(f"cell{number}", {Cell("output"): T.Q8_0}) for number in range(4)]
    bench, path = Counting(), tmp_path / "t.jsonl"
    table = Divergences(Setting("m", "", "", "", 512, 2))
    with pytest.raises(KeyboardInterrupt):
        calibrate(cast(Bench, bench), plan, table, path, lambda *_: None)
    kept = read_divergences(path)
    assert list(kept.cells) == ["cell0", "cell1"]
    done = calibrate(cast(Bench, bench), plan, kept, path, lambda *_: None)
    assert list(done.cells) == ["cell0", "cell1", "cell2", "cell3"]
    assert len(bench.asked) == 5
    assert read_divergences(path) == done
