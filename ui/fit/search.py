"""The search with measurements: chosen again until what the choice rests on was measured, and the best file wins.

A table of classes tells which files are worth a measurement; what a whole file loses only its own measurement tells. So
the choice, its neighbours, the best files of other widths and the most promising named recipes are measured, and where
another than the choice is best, its neighbours as well. Files that were measured for other budgets are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from nemotron_gguf.models.divergences import Divergence
    from nemotron_gguf.quant.fit.choice import Choice, Problem
    from nemotron_gguf.ui.fit.measuring import Laboratory

ROUNDS = 4  # of choosing again, and of looking around the best file
NEIGHBOURS, WIDTHS = 3, 3  # files measured beside the choice, at most
RIVALS = 3  # named recipes as llama.cpp makes them, and as many of other widths

Known: TypeAlias = Callable[["Mapping[str, Divergence]"], "Sequence[Problem]"]
"""What the solver chooses from, given what was measured."""


@dataclass(frozen=True)
class Found:
    """The best file by measurement, and the problems as they were known in the end."""

    choice: Choice
    problems: Sequence[Problem]


def search(lab: Laboratory, known: Known, budget: int) -> Found | None:
    """The file within the budget that was measured best; None where nothing fits."""
    from nemotron_gguf.quant.fit.rivals import remembered

    problems, best = _grounded(lab, known, budget)
    if best is None:
        return None
    tried = _around(problems, best, budget) + _of_other_widths(problems, best, budget) + _rivals(problems, budget)
    tried += remembered(problems, lab.table.cells, budget)
    for _ in range(ROUNDS):
        found = _best(lab, [best, *tried])
        if found.key == best.key:
            break
        best, tried = found, _around(problems, found, budget)
    return Found(best, problems)


def _grounded(lab: Laboratory, known: Known, budget: int) -> tuple[Sequence[Problem], Choice | None]:
    """The choice by the table, to which is added until the choice rests on measurements or has changed often enough."""
    from nemotron_gguf.quant.fit.agenda import unmeasured
    from nemotron_gguf.quant.fit.choice import choose

    for _ in range(ROUNDS):
        problems = known(lab.table.cells)
        choice = choose(problems, budget)
        missing = unmeasured(choice, _problem(problems, choice), lab.table.cells) if choice else []
        if not missing:
            return problems, choice
        lab.measure_cells(missing)
    problems = known(lab.table.cells)
    return problems, choose(problems, budget)


def _problem(problems: Sequence[Problem], choice: Choice) -> Problem:
    """That which a choice is one of."""
    return next(one for one in problems if one.alternative is choice.alternative)


def _around(problems: Sequence[Problem], choice: Choice, budget: int) -> list[Choice]:
    """The best files that differ from a choice in the type of a class; a named recipe has none."""
    return [] if choice.named else _problem(problems, choice).neighbours(choice, budget, NEIGHBOURS)


def _of_other_widths(problems: Sequence[Problem], choice: Choice, budget: int) -> list[Choice]:
    """The best file of each other set of widths, the most promising first."""
    others = (one.best(budget) for one in problems if one.alternative is not choice.alternative)
    return sorted((one for one in others if one), key=lambda one: (one.loss, one.cost))[:WIDTHS]


def _rivals(problems: Sequence[Problem], budget: int) -> list[Choice]:
    """The most promising named recipes: some as llama.cpp makes them, some of other widths."""
    from nemotron_gguf.quant.fit.rivals import rivals

    named = rivals(problems, budget)
    stock = [one for one in named if not one.alternative.pad and not one.alternative.trim]
    others = [one for one in named if one.alternative.pad or one.alternative.trim]
    return stock[:RIVALS] + others[:RIVALS]


def _best(lab: Laboratory, tried: Sequence[Choice]) -> Choice:
    """That which was measured best; of equal ones the smallest, and of those the first."""
    losses = lab.measure_files(tried)
    return min(zip(losses, tried, strict=True), key=lambda pair: (pair[0], pair[1].cost))[1]
