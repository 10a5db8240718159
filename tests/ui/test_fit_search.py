"""The search: what a choice rests on is measured, files are measured whole, and the best of them wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nemotron_gguf.convert import FilePlan, open_checkpoint, plan_conversion
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.divergences import Divergence, Divergences, Setting, read_divergences
from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.fit.agenda import unmeasured
from nemotron_gguf.quant.fit.alternative import Alternative, alternatives
from nemotron_gguf.quant.fit.choice import Problem, choose, problem_of
from nemotron_gguf.quant.fit.predict import Prediction
from nemotron_gguf.quant.fit.rivals import rivals
from nemotron_gguf.quant.fit.types import ERRORS
from nemotron_gguf.ui.fit.calibrate import Bench
from nemotron_gguf.ui.fit.measuring import Laboratory
from nemotron_gguf.ui.fit.search import RIVALS, search

Truth = Callable[[Mapping[str, T]], float]
"""What a file loses, by its tensors' types."""


@pytest.fixture(scope="module")
def source() -> Iterator[FilePlan]:
    with open_checkpoint(CHECKPOINT) as checkpoint:
        yield plan_conversion(checkpoint)


class Desk:
    """Measures by a made-up truth, and notes what it was asked."""

    def __init__(self, source: FilePlan, truth: Truth) -> None:
        self.parts = SimpleNamespace(imatrix=None, alternative=Alternative(source))
        self.truth = truth
        self.files: list[dict[str, T]] = []
        self.cells: list[Mapping[Cell, T]] = []

    def measure(self, types: Mapping[Cell, T]) -> Divergence:
        self.cells.append(types)
        cells = self.parts.alternative.cells
        return self._found({name: kind for cell, kind in types.items() for name in cells[cell]})

    def measure_file(self, plan: FilePlan) -> Divergence:
        self.files.append({tensor.name: tensor.type for tensor in plan.tensors if tensor.type.is_quantized})
        return self._found(self.files[-1])

    def _found(self, types: Mapping[str, T]) -> Divergence:
        return Divergence(self.truth(types), 0.0, 1000)


@pytest.fixture
def laboratory(source: FilePlan, tmp_path: Path) -> Callable[[Truth], Laboratory]:
    def make(truth: Truth) -> Laboratory:
        desk = cast(Bench, Desk(source, truth))
        return Laboratory(desk, tmp_path / "t.jsonl", Divergences(Setting("m", "", "", "", 512, 2)), lambda *_: None)

    return make


@pytest.fixture(scope="module")
def known(source: FilePlan) -> Callable[[Mapping[str, Divergence]], list[Problem]]:
    plain, *_, padded = alternatives(source)
    layers = {cell: len(names) for cell, names in plain.cells.items()}
    return lambda measured: [problem_of(one, Prediction({}, layers, measured).of, None) for one in (plain, padded)]


def budget_of(source: FilePlan, bits: float) -> int:
    return int(bits * sum(prod(tensor.shape) for tensor in source.tensors) / 8)


def by_errors(types: Mapping[str, T]) -> float:
    """A truth that adds up, in which down is dearer than was expected."""
    return sum(ERRORS.get(kind, 1.0) * (5 if "down_exps" in name else 1) for name, kind in types.items())


def desk_of(lab: Laboratory) -> Desk:
    return cast(Any, lab.bench)  # type: ignore[no-any-return]


def test_a_choice_rests_on_measurements(source: FilePlan, laboratory: Any, known: Any) -> None:
    """What the first choice has most of turns out to be dreadful: it is measured, and another is chosen."""
    budget = budget_of(source, 5)
    first = choose(known({}), budget)
    assert first is not None
    dreadful = first.types[Cell("expert_up")]
    lab = laboratory(lambda types: by_errors(types) + any(
        "up_exps" in name and kind is dreadful for name, kind in types.items()
    ))  # fmt: skip
    found = search(lab, known, budget)
    assert found is not None
    assert f"expert_up={dreadful.name}" in lab.table.cells
    assert found.choice.types[Cell("expert_up")] is not dreadful
    grounded = choose(found.problems, budget)
    assert grounded is not None
    problem = next(one for one in found.problems if one.alternative is grounded.alternative)
    assert not unmeasured(grounded, problem, lab.table.cells)


def test_the_best_measured_wins_and_none_of_the_promising_recipes_is_better(
    source: FilePlan, laboratory: Any, known: Any
) -> None:
    budget = budget_of(source, 5.6)
    lab = laboratory(by_errors)
    found = search(lab, known, budget)
    assert found is not None
    wholes = {key: one.mean for key, one in lab.table.cells.items() if key.startswith("whole ")}
    assert wholes[found.choice.key] == min(wholes.values())
    assert found.choice.cost <= budget
    named = rivals(found.problems, budget)
    for some in ([one for one in named if not one.alternative.pad], [one for one in named if one.alternative.pad]):
        assert {one.key for one in some[:RIVALS]} <= set(wholes), "stock recipes and padded ones were measured"
    assert read_divergences(lab.path) == lab.table


def test_a_named_recipe_that_is_better_is_handed_out(source: FilePlan, laboratory: Any, known: Any) -> None:
    """Where a recipe as llama.cpp makes it turns out to be the best, it is what fit chooses, under its name."""
    budget = budget_of(source, 5.6)
    best = next(one for one in rivals(known({}), budget) if not one.alternative.pad)
    lab = laboratory(lambda types: 0.001 if types == best.named_types else by_errors(types))
    found = search(lab, known, budget)
    assert found is not None
    assert found.choice.key == best.key
    assert found.choice.named is best.named is not None
    assert found.choice.recipe("x", {}, {}).types == {}


def test_around_a_better_neighbour_it_goes_on(source: FilePlan, laboratory: Any, known: Any) -> None:
    """The best neighbour of the choice is the best of all: it is found, and its own neighbours are measured."""
    budget = budget_of(source, 5)
    lab = laboratory(by_errors)
    first = search(lab, known, budget)
    assert first is not None
    choice = choose(first.problems, budget)
    assert choice is not None
    problem = next(one for one in first.problems if one.alternative is choice.alternative)
    better = problem.neighbours(choice, budget, 3)[2]
    types = {tensor.name: tensor.type for tensor in better.plan(None).tensors if tensor.type.is_quantized}
    second = laboratory(lambda found: 0.001 if found == types else by_errors(found))
    found = search(second, known, budget)
    assert found is not None
    assert found.choice.key == better.key
    assert {one.key for one in problem.neighbours(better, budget, 3)} <= set(second.table.cells)


def test_a_search_again_measures_nothing(source: FilePlan, laboratory: Any, known: Any) -> None:
    lab = laboratory(by_errors)
    first = search(lab, known, budget_of(source, 5))
    desk_of(lab).files.clear()
    desk_of(lab).cells.clear()
    second = search(lab, known, budget_of(source, 5))
    assert first is not None
    assert second is not None
    assert (desk_of(lab).files, desk_of(lab).cells) == ([], [])
    assert first.choice.key == second.choice.key


def test_a_good_file_of_another_budget_is_not_forgotten(source: FilePlan, laboratory: Any, known: Any) -> None:
    """A smaller file that was measured better than all that is tried now stays the best: more room is never worse."""
    lab = laboratory(by_errors)
    small = search(lab, known, budget_of(source, 4.5))
    assert small is not None
    lab.table = lab.table.with_cell(small.choice.key, Divergence(1e-6, 0.0, 1000))
    large = search(lab, known, budget_of(source, 5))
    assert large is not None
    assert large.choice.key == small.choice.key


def test_nothing_fits(laboratory: Any, known: Any) -> None:
    assert search(laboratory(by_errors), known, 1000) is None
