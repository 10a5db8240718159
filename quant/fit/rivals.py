"""Files beside the solver's: the named recipes that a fitted file has to beat, and those that a table knows already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.classes import Cell
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import FILE_TYPES, FileType
from nemotron_gguf.quant.fit.alternative import Alternative, planned
from nemotron_gguf.quant.fit.choice import WHOLE, Choice, Problem
from nemotron_gguf.quant.fit.types import ERRORS


def rivals(problems: Sequence[Problem], budget: int) -> list[Choice]:
    """Every named recipe within the budget in each set of widths, that of least predicted divergence first.

    Of those that give all tensors the same types the first is kept.
    """
    found: dict[object, Choice] = {}
    for problem in problems:
        for kind in FILE_TYPES:
            choice = _file(problem, {}, kind) if kind.base.is_quantized else None
            if choice and choice.cost <= budget:
                widths = problem.alternative.pad, problem.alternative.trim and problem.alternative.trim.dimensions
                found.setdefault((widths, tuple(choice.named_types.items())), choice)
    return sorted(found.values(), key=lambda one: (one.loss, one.cost))


def remembered(problems: Sequence[Problem], keys: Iterable[str], budget: int) -> list[Choice]:
    """The files within the budget that these keys of a table name (`Choice.key`); other keys are passed over."""
    found = (read_key(problems, key) for key in keys if key.split(" ", 1)[0] == WHOLE)
    return [one for one in found if one and one.cost <= budget]


def read_key(problems: Sequence[Problem], key: str) -> Choice | None:
    """The file that a key names; None where this model, or these problems, do not have it."""
    words: defaultdict[str, set[str]] = defaultdict(set)
    kinds: dict[str, GGMLType] = {}
    for name, equals, value in (word.partition("=") for word in key.split(" ")[1:]):
        if name in ("pad", "trim", "named"):
            words[name].add(value)
        elif equals and value in GGMLType.__members__:
            kinds[name] = GGMLType[value]
    for problem in problems:
        if (words["pad"], words["trim"]) == _widths(problem.alternative):
            named = next((kind for kind in FILE_TYPES if {kind.name} == words["named"]), None)
            types = _types(problem.alternative, kinds)
            return _file(problem, types, named) if named or len(types) == len(problem.alternative.cells) else None
    return None


def _widths(alternative: Alternative) -> tuple[set[str], set[str]]:
    """The names of those that are padded and of those that are trimmed."""
    trimmed = alternative.trim.dimensions if alternative.trim else ()
    return {width.value for width in alternative.pad}, {width.value for width in trimmed}


def _types(alternative: Alternative, kinds: Mapping[str, GGMLType]) -> dict[Cell, GGMLType]:
    """The types of cells by the names of these or of their classes."""
    found = ((cell, kinds.get(f"{cell.name}.{cell.part}", kinds.get(cell.name))) for cell in alternative.cells)
    return {cell: kind for cell, kind in found if kind is not None}


def _file(problem: Problem, types: Mapping[Cell, GGMLType], named: FileType | None) -> Choice | None:
    """A file with these types or of a named recipe, if it can be made and its types are known."""
    try:
        plan = planned(problem.alternative, types, problem.imatrix, named, dry_run=False)
    except QuantError:  # importance that is missing, rows that no type fits
        return None
    inside = {name for names in problem.alternative.cells.values() for name in names}
    all_types = {tensor.name: tensor.type for tensor in plan.tensors if tensor.name in inside}
    loss = _loss(problem, all_types)
    if loss is None:
        return None
    size, cost = plan.header.file_size, _cost(problem, plan)
    return Choice(problem.alternative, types, size, cost, loss, named, all_types if named else {})


def _cost(problem: Problem, plan: FilePlan) -> int:
    """What a file takes of the budget."""
    price = problem.price
    whole = plan.header.file_size if price is None else sum(price(t.name, t.shape, t.type) for t in plan.tensors)
    return whole + problem.beside


def _loss(problem: Problem, types: Mapping[str, GGMLType]) -> float | None:
    """The divergence predicted: of a cell with several types, the mean over its tensors. None for types not known."""
    total = problem.alternative.lost
    for cell, names in problem.alternative.cells.items():
        kinds = [types[name] for name in names]
        if not ERRORS.keys() >= set(kinds):
            return None
        total += sum(problem.predicted(cell, kind) for kind in kinds) / len(kinds)
    return total
