"""The choice of a file: exact sizes, budgets kept, alternatives of width, neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.convert import FilePlan, Output, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.divergences import Divergence
from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.fit import sampled
from nemotron_gguf.quant.fit.agenda import agenda
from nemotron_gguf.quant.fit.alternative import Alternative, alternatives, planned
from nemotron_gguf.quant.fit.choice import Problem, choose, frontier, problem_of
from nemotron_gguf.quant.fit.predict import Prediction
from nemotron_gguf.quant.fit.sampled import relative_errors, sample
from nemotron_gguf.quant.fit.types import ERRORS
from nemotron_gguf.quant.trimming import Trimming
from nemotron_gguf.quant.widths import paddable


@pytest.fixture(scope="module")
def source() -> Iterator[FilePlan]:
    with open_checkpoint(CHECKPOINT) as checkpoint:
        yield plan_conversion(checkpoint)


@pytest.fixture(scope="module")
def problems(source: FilePlan) -> list[Problem]:
    plain = Alternative(source)
    prediction = Prediction({}, {cell: len(names) for cell, names in plain.cells.items()}, {})
    return [problem_of(one, prediction.of, None) for one in alternatives(source)]


def n_weights(source: FilePlan) -> int:
    return sum(prod(tensor.shape) for tensor in source.tensors)


@pytest.mark.parametrize("bits", [3.6, 4.2, 4.7, 5.3, 6.1, 8.0, 12.0])
def test_sizes_are_exact_and_budgets_kept(source: FilePlan, problems: list[Problem], bits: float) -> None:
    budget = int(bits * n_weights(source) / 8)
    choice = choose(problems, budget)
    assert choice is not None
    assert choice.nbytes <= budget
    assert planned(choice.alternative, choice.types, None).header.file_size == choice.nbytes


def test_the_file_has_the_size_that_was_told(source: FilePlan, problems: list[Problem], tmp_path: Path) -> None:
    choice = choose(problems, int(4.0 * n_weights(source) / 8))
    assert choice is not None
    assert choice.alternative.pad, "below 4.5 bits only padded files of this model are left"
    write_files([Output(planned(choice.alternative, choice.types, None), tmp_path / "x.gguf")])
    assert (tmp_path / "x.gguf").stat().st_size == choice.nbytes


def test_the_frontier_is_monotone(problems: list[Problem]) -> None:
    found = frontier(problems, 24)
    assert len(found) > 12
    for smaller, larger in pairwise(found):
        assert smaller.nbytes < larger.nbytes
        assert smaller.loss > larger.loss


def test_nothing_fits_a_budget_that_is_too_small(problems: list[Problem]) -> None:
    least = min(problem.least for problem in problems)
    assert choose(problems, least) is not None
    assert choose(problems, least - 1) is None


def test_neighbours_differ_and_keep_the_budget(problems: list[Problem]) -> None:
    problem = problems[0]
    budget = (problem.least + problem.most) // 2
    choice = problem.best(budget)
    assert choice is not None
    found = problem.neighbours(choice, budget, 5)
    assert len(found) == 5
    for one in found:
        assert one.types != choice.types
        assert one.cost <= budget
        assert one.loss >= choice.loss


def test_every_set_of_widths_is_an_alternative(source: FilePlan) -> None:
    assert len(alternatives(source)) == 8  # hidden, expert, shared: each padded or not
    trim = Trimming(frozenset({Dimension.EXPERT}))
    trimmed = [one for one in alternatives(source, trim) if one.trim]
    assert len(trimmed) == 4
    assert all(Dimension.EXPERT not in one.pad for one in trimmed)


def test_small_classes_that_are_always_used_have_a_floor(source: FilePlan) -> None:
    whole = Alternative(source, paddable(source, 256))
    options = problem_of(whole, lambda _, kind: ERRORS[kind], Imatrix("none", {}, (), 0)).options
    least = {cell: min(option.type.bits_per_weight for option in found) for cell, found in options.items()}
    assert least[Cell("attention_q", "first")] == 4.25
    assert least[Cell("expert_up")] < 2.5


def test_measurements_stand_and_lead(source: FilePlan) -> None:
    cells = Alternative(source).cells
    layers = {cell: len(names) for cell, names in cells.items()}
    measured = {
        "base": 0.001, "expert_up=IQ4_XS": 0.011, "expert_up=IQ3_S": 0.041,
        "expert_up.first=IQ3_S": 0.021, "expert_up.middle=IQ3_S": 0.011, "expert_up.last=IQ3_S": 0.011,
        "mamba_in=Q4_K": 0.101,
    }  # fmt: skip
    prediction = Prediction({}, layers, {key: Divergence(mean, 0.0, 1000) for key, mean in measured.items()})
    first, middle = Cell("expert_up", "first"), Cell("expert_up")
    assert prediction.of(first, T.IQ3_S) == pytest.approx(0.02)
    assert prediction.of(first, T.IQ4_XS) == pytest.approx(0.01 / 2)  # half of the class, as in the type measured
    assert prediction.of(middle, T.IQ4_XS) == pytest.approx(0.01 / 4)
    between = prediction.of(middle, T.MXFP4)
    assert 0.01 / 4 < between < 0.04 / 4
    assert prediction.of(middle, T.IQ2_S) > 0.04 / 4
    parts = sum(prediction.of(Cell("mamba_in", part), T.Q4_K) for part in ("first", "middle", "last"))
    assert parts == pytest.approx(0.1)


def every_row(plain: Alternative, name: str) -> Any:
    tensor = plain.tensors[name]
    return sampled._rows(tensor, 0, tensor.n_rows)


def test_sampled_errors_are_those_of_all_rows(source: FilePlan) -> None:
    """A few rows tell within a fifth what ggml's quantizer does to a whole class."""
    plain = Alternative(source)
    cells = {cell: names for cell, names in plain.cells.items() if cell.name in ("mamba_in", "expert_down", "output")}
    few = relative_errors(sample(plain.tensors, cells, None), (T.Q4_0, T.Q5_1))
    samples = {
        cell: [
            sampled.Sample(sampled._rows(plain.tensors[name], 0, plain.tensors[name].n_rows), None) for name in names
        ]
        for cell, names in cells.items()
    }
    every = relative_errors(samples, (T.Q4_0, T.Q5_1))
    assert few.keys() == every.keys()
    for key, error in every.items():
        assert few[key] == pytest.approx(error, rel=0.2), key


def test_default_errors_are_those_of_normal_weights() -> None:
    import numpy as np

    from nemotron_gguf.quant.fit.sampled import Sample

    rng = np.random.default_rng(3)
    rows = rng.standard_normal((16, 2048)).astype(np.float32)
    cell = Cell("expert_up")
    kinds = [kind for kind in ERRORS if kind.is_quantized]
    found = relative_errors({cell: [Sample(rows, np.ones(2048, np.float32))]}, kinds)
    for kind in kinds:
        assert found[cell, kind] == pytest.approx(ERRORS[kind], rel=0.35), kind


def test_the_agenda_of_the_real_model_is_short(source: FilePlan) -> None:
    shares = Alternative(source, paddable(source, 256)).shares
    plan = agenda(shares, has_imatrix=True, depth=3)
    assert len(plan) == len({one.key for one in plan}) == 51
    assert plan[0].key == "base"
    assert not plan[0].types
    assert all(one.types for one in plan[1:])
