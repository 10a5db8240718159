"""The named recipes that fit a budget, whatever their widths: what a fitted file has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import FILE_TYPES, FileType
from nemotron_gguf.quant.fit.alternative import planned
from nemotron_gguf.quant.fit.choice import Choice, Problem
from nemotron_gguf.quant.fit.types import ERRORS


def rivals(problems: Sequence[Problem], budget: int) -> list[Choice]:
    """Every named recipe within the budget in each set of widths, that of least predicted divergence first.

    Of those that give all tensors the same types the first is kept.
    """
    found: dict[str, Choice] = {}
    for problem in problems:
        for kind in FILE_TYPES:
            if kind.base.is_quantized:
                for choice in _named(problem, kind, budget):
                    found.setdefault(choice.key, choice)
    return sorted(found.values(), key=lambda one: (one.loss, one.cost))


def _named(problem: Problem, kind: FileType, budget: int) -> Iterator[Choice]:
    """A named recipe in some widths, if it can be made, fits and has known types."""
    try:
        plan = planned(problem.alternative, {}, problem.imatrix, kind, dry_run=False)
    except QuantError:  # importance that is missing, rows that no type fits
        return
    cost = _cost(problem, plan)
    inside = {name for names in problem.alternative.cells.values() for name in names}
    types = {tensor.name: tensor.type for tensor in plan.tensors if tensor.name in inside}
    loss = _loss(problem, types)
    if cost <= budget and loss is not None:
        yield Choice(problem.alternative, {}, plan.header.file_size, cost, loss, kind, types)


def _cost(problem: Problem, plan: FilePlan) -> int:
    """What a file takes of the budget."""
    price = problem.price
    whole = plan.header.file_size if price is None else sum(price(t.name, t.shape, t.type) for t in plan.tensors)
    return whole + problem.beside


def _loss(problem: Problem, types: dict[str, GGMLType]) -> float | None:
    """The divergence predicted: of a cell with several types, the mean over its tensors. None for types not known."""
    total = problem.alternative.lost
    for cell, names in problem.alternative.cells.items():
        kinds = [types[name] for name in names]
        if not ERRORS.keys() >= set(kinds):
            return None
        total += sum(problem.predicted(cell, kind) for kind in kinds) / len(kinds)
    return total
