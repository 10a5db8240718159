"""The named recipes that fit a budget: their sizes, their widths, and the recipe files that they become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.convert import FilePlan, open_checkpoint, plan_conversion
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_quantization
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.fit import choice as module
from nemotron_gguf.quant.fit.alternative import Alternative, alternatives
from nemotron_gguf.quant.fit.choice import Choice, Problem, choose, frontier, problem_of
from nemotron_gguf.quant.fit.predict import Prediction
from nemotron_gguf.quant.fit.rivals import read_key, remembered, rivals
from nemotron_gguf.quant.recipe import GARBAGE_WITHOUT_IMPORTANCE
from nemotron_gguf.quant.recipe_file import read_recipe, recipe_text


@pytest.fixture(scope="module")
def source() -> Iterator[FilePlan]:
    with open_checkpoint(CHECKPOINT) as checkpoint:
        yield plan_conversion(checkpoint)


@pytest.fixture(scope="module")
def problems(source: FilePlan) -> list[Problem]:
    plain = Alternative(source)
    prediction = Prediction({}, {cell: len(names) for cell, names in plain.cells.items()}, {})
    plain, *_, padded = alternatives(source)  # nothing padded, and everything
    return [problem_of(one, prediction.of, None) for one in (plain, padded)]


@pytest.fixture(scope="module")
def named(source: FilePlan, problems: list[Problem]) -> list[Choice]:
    return rivals(problems, int(5.6 * sum(prod(tensor.shape) for tensor in source.tensors) / 8))


def types_of(plan: FilePlan) -> list[tuple[str, tuple[int, ...], T]]:
    return [(tensor.name, tensor.shape, tensor.type) for tensor in plan.tensors]


def test_they_are_what_llama_cpp_makes(source: FilePlan, named: list[Choice]) -> None:
    """Stock Q4_0 is among them, with its size to the byte and every type."""
    expected = plan_quantization(source, QuantizeOptions(file_type("Q4_0")))
    (found,) = (one for one in named if one.named is file_type("Q4_0") and not one.alternative.pad)
    assert found.nbytes == found.cost == expected.header.file_size
    assert types_of(found.plan(None)) == types_of(expected)


def test_they_fit_the_budget_the_best_first_and_none_is_there_twice(source: FilePlan, named: list[Choice]) -> None:
    budget = int(5.6 * sum(prod(tensor.shape) for tensor in source.tensors) / 8)
    assert len(named) > 8
    assert all(one.cost <= budget for one in named)
    assert [one.loss for one in named] == sorted(one.loss for one in named)
    assert len({one.key for one in named}) == len(named)
    assert "Q8_0" not in {one.named.name for one in named if one.named}


def test_what_needs_importance_is_none_without_it(named: list[Choice]) -> None:
    names = {one.named.name for one in named if one.named}
    assert not {"IQ2_XS", "IQ3_XXS", "Q2_K_S"} & names
    assert {"TQ1_0", "Q2_0"} <= names, "types that no fitted file has are rivals as well"


def test_a_card_is_charged_as_it_charges_a_fitted_file(problems: list[Problem]) -> None:
    def price(_name: str, shape: tuple[int, ...], kind: T) -> int:
        return prod(shape) if kind.bits_per_weight > 8 else 1

    priced = [replace(one, price=price, beside=1000) for one in problems]
    for one in rivals(priced, 10**9):
        tensors = one.plan(None).tensors
        assert one.cost == 1000 + sum(prod(t.shape) if t.type.bits_per_weight > 8 else 1 for t in tensors)


def test_one_becomes_a_recipe_file_that_builds_the_same(source: FilePlan, named: list[Choice], tmp_path: Path) -> None:
    choice = next(one for one in named if one.alternative.pad)
    path = tmp_path / "r.toml"
    path.write_text(recipe_text(choice.recipe("r", {}, {})), encoding="utf-8")
    recipe = read_recipe(path)
    assert (recipe.base, recipe.types) == (choice.named, {})
    options = QuantizeOptions(recipe.base, pad=frozenset(Dimension(width) for width in recipe.pad))
    assert types_of(plan_quantization(source, options)) == types_of(choice.plan(None))


def test_a_key_of_a_table_is_read_as_the_file_that_it_names(problems: list[Problem], named: list[Choice]) -> None:
    for choice in (*frontier(problems, 8), *named[:4]):
        found = read_key(problems, choice.key)
        assert found is not None
        assert (found.key, found.types, found.named) == (choice.key, choice.types, choice.named)
        assert (found.nbytes, found.cost) == (choice.nbytes, choice.cost)
        assert found.loss == pytest.approx(choice.loss)
        assert found.alternative is choice.alternative


def test_files_that_a_table_knows_are_remembered_where_they_fit(problems: list[Problem]) -> None:
    small, large = choose(problems, problems[1].least), choose(problems, problems[0].most)
    assert small is not None
    assert large is not None
    keys = [small.key, "base", large.key, "expert_up=Q4_K", "whole", "whole pad=latent expert_up=Q4_K", "whole=0f3a"]
    assert [one.key for one in remembered(problems, keys, large.cost)] == [small.key, large.key]
    assert [one.key for one in remembered(problems, keys, large.cost - 1)] == [small.key]


def test_types_that_a_matrix_says_nothing_for_are_no_options(source: FilePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix without the output, as they are by default, gives it no type that needs importance."""
    whole = alternatives(source)[-1]
    entries: dict[str, Any] = dict.fromkeys(name for names in whole.cells.values() for name in names)
    del entries["output.weight"]
    monkeypatch.setattr(module, "planned", lambda _way, _types, _imatrix: whole.plan)  # nobody reads the entries
    problem = problem_of(whole, lambda _, kind: 1 / kind.bits_per_weight, Imatrix("x", entries, (), 1))
    kinds = {cell: {option.type for option in options} for cell, options in problem.options.items()}
    assert T.IQ2_XS in kinds[Cell("expert_up")]
    assert not GARBAGE_WITHOUT_IMPORTANCE & kinds[Cell("output")]
