"""The choice: of all files that fit a budget the one of least predicted divergence, exact to the byte.

An alternative is the plan of an unquantized file whose widths are as they were, padded or trimmed; each has its own
options and costs. Within one the solver chooses, between them the least divergence does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_writer import pad, tensor_bytes
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant.classes import PARTS, Cell
from nemotron_gguf.quant.file_types import FILE_TYPES, FileType, file_type
from nemotron_gguf.quant.fit.alternative import Alternative, planned
from nemotron_gguf.quant.fit.solver import Question, best, undominated
from nemotron_gguf.quant.fit.types import candidates
from nemotron_gguf.quant.recipe_file import Recipe

Cost = Callable[[str, tuple[int, ...], GGMLType], int]
"""Bytes that a tensor of a name, a row-major shape and a type takes of a budget."""

WHOLE = "whole"
"""What a table's name for the measurement of a whole file begins with."""

_BASES = {GGMLType.Q3_K: "Q3_K_M", GGMLType.IQ3_S: "IQ3_S", GGMLType.IQ2_S: "IQ2_M", GGMLType.IQ2_XS: "IQ2_XS"}


@dataclass(frozen=True)
class Option:
    """A type for a cell: what it takes of the file and of the budget, and the divergence predicted."""

    type: GGMLType
    nbytes: int
    cost: int
    loss: float


@dataclass(frozen=True)
class Choice:
    """A type for every cell of an alternative; `nbytes` of the file, `cost` of the budget, `loss` as predicted.

    Where a named recipe is chosen, `named` is it, `named_types` has its tensors' types, and `types` nothing.
    """

    alternative: Alternative
    types: Mapping[Cell, GGMLType]
    nbytes: int
    cost: int
    loss: float
    named: FileType | None = None
    named_types: Mapping[str, GGMLType] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """How a table names the measurement of this file: `whole pad=hidden expert_up=IQ3_S …`, as `read_key` reads."""
        trimmed = self.alternative.trim.dimensions if self.alternative.trim else ()
        words = [f"pad={width}" for width in sorted(self.alternative.pad)]
        words += [f"trim={width}" for width in sorted(trimmed)]
        words += [f"named={self.named.name}"] if self.named else []
        by_class: dict[str, dict[Cell, GGMLType]] = {}
        for cell, kind in self.types.items():
            by_class.setdefault(cell.name, {})[cell] = kind
        for name, kinds in by_class.items():
            one = next(iter(kinds.values())) if len(set(kinds.values())) == 1 else None
            words += [f"{name}={one.name}"] if one else [f"{name}.{c.part}={kind.name}" for c, kind in kinds.items()]
        return " ".join([WHOLE, *words])

    def plan(self, imatrix: Imatrix | None) -> FilePlan:
        """The plan of the file. Raises QuantError where a type needs importance that is missing."""
        return planned(self.alternative, self.types, imatrix, self.named, dry_run=False)

    def sketch(self, imatrix: Imatrix | None) -> FilePlan:
        """The same for its sizes alone."""
        return planned(self.alternative, self.types, imatrix, self.named)

    @cached_property
    def base(self) -> FileType:
        """The file type that a reader is told: the named one, else that of most weights."""
        if self.named:
            return self.named
        weights: Counter[GGMLType] = Counter()
        for cell, kind in self.types.items():
            tensors = (self.alternative.tensors[name] for name in self.alternative.cells[cell])
            weights[kind] += sum(tensor.n_rows * tensor.n_per_row for tensor in tensors)
        return base_of(kind for kind, _ in weights.most_common())

    def recipe(
        self, name: str, importance: Mapping[str, str | int | float], about: Mapping[str, str | int | float]
    ) -> Recipe:
        """The choice as a recipe; a class with one type has it in all parts, those that this model lacks too."""
        types = dict(self.types)
        for name_of_class in {cell.name for cell in types}:
            kinds = {kind for cell, kind in self.types.items() if cell.name == name_of_class}
            if len(kinds) == 1:
                types |= dict.fromkeys((Cell(name_of_class, part) for part in PARTS), *kinds)
        padded, trimmed = self.alternative.pad, self.alternative.trim
        less = trimmed.dimensions if trimmed else frozenset()
        pad = tuple(d.value for d in Dimension if d in padded)
        trim = tuple(d.value for d in Dimension if d in less)
        return Recipe(name, self.base, types, (), pad, trim, importance, about)


def base_of(kinds: Iterable[GGMLType]) -> FileType:
    """The file type that stands for the first of some types that one stands for."""
    for kind in kinds:
        if kind in _BASES:
            return file_type(_BASES[kind])
        for known in FILE_TYPES:
            if known.base is kind and kind.is_quantized:
                return known
    return file_type("Q8_0")


@dataclass(frozen=True)
class Problem:
    """An alternative with all that its cells may be, and what is the same whatever they are.

    The rest is what `problem_of` was given.
    """

    alternative: Alternative
    options: Mapping[Cell, tuple[Option, ...]]
    rest_nbytes: int
    rest_cost: int
    imatrix: Imatrix | None
    predicted: Callable[[Cell, GGMLType], float]
    price: Cost | None
    beside: int

    @cached_property
    def _items(self) -> list[list[tuple[int, float]]]:
        return [[(option.cost, option.loss) for option in options] for options in self.options.values()]

    @cached_property
    def _question(self) -> Question:
        return Question(self._items)

    def best(self, budget: int, known: float = inf) -> Choice | None:
        """The choice of least loss whose cost is within the budget; None where there is none, or none below `known`."""
        numbers = self._question.best(budget - self.rest_cost, known - self.alternative.lost)
        if numbers is None:
            return None
        return self.choice(numbers)

    def choice(self, numbers: Sequence[int]) -> Choice:
        """The choice of one option, by its number, for each cell."""
        taken = {cell: options[n] for (cell, options), n in zip(self.options.items(), numbers, strict=True)}
        return Choice(
            self.alternative,
            {cell: option.type for cell, option in taken.items()},
            self.rest_nbytes + sum(option.nbytes for option in taken.values()),
            self.rest_cost + sum(option.cost for option in taken.values()),
            self.alternative.lost + sum(option.loss for option in taken.values()),
        )

    def neighbours(self, choice: Choice, budget: int, count: int) -> list[Choice]:
        """The best choices within the budget that give one cell another type, the best first."""
        found = []
        for number, (cell, options) in enumerate(self.options.items()):
            items = list(self._items)
            others = [index for index, option in enumerate(options) if option.type is not choice.types[cell]]
            items[number] = [items[number][index] for index in others]
            numbers = best(items, budget - self.rest_cost) if others else None
            if numbers is not None:
                found.append(self.choice([*numbers[:number], others[numbers[number]], *numbers[number + 1 :]]))
        distinct = {tuple(one.types.values()): one for one in sorted(found, key=lambda one: (one.loss, one.cost))}
        return list(distinct.values())[:count]

    def with_beside(self, nbytes: int) -> Problem:
        """The same where the budget has to pay so much besides."""
        return replace(self, rest_cost=self.rest_cost - self.beside + nbytes, beside=nbytes)

    @property
    def least(self) -> int:
        """What the cheapest choice costs."""
        return self.rest_cost + sum(min(o.cost for o in options) for options in self.options.values())

    @property
    def most(self) -> int:
        """What the choice of least loss costs."""
        return self.rest_cost + sum(
            min(options, key=lambda o: (o.loss, o.cost)).cost for options in self.options.values()
        )


def problem_of(
    alternative: Alternative,
    loss: Callable[[Cell, GGMLType], float],
    imatrix: Imatrix | None,
    cost: Cost | None = None,
    beside: int = 0,
) -> Problem:
    """All that an alternative may be. `loss` predicts a cell's divergence; `cost` is the size of the file if not given.

    `beside` is what the budget has to pay besides, such as the context.

    Types that no row of a cell fits are left out, and of the others those that cost as much and lose more.
    """
    tensors, alignment = alternative.tensors, alternative.plan.alignment
    parts: defaultdict[str, float] = defaultdict(float)
    for cell, share in alternative.shares.items():
        parts[cell.name] += share
    found: dict[Cell, tuple[Option, ...]] = {}
    for cell, names in alternative.cells.items():
        members = [tensors[name] for name in names]
        kinds = candidates(cell.name, members[0].type, parts[cell.name], has_imatrix=_covers(imatrix, names))
        fitting = [kind for kind in kinds if all(tensor.n_per_row % kind.block_size == 0 for tensor in members)]
        options = [
            Option(
                kind,
                nbytes := sum(pad(tensor_bytes(tensor.shape, kind), alignment) for tensor in members),
                nbytes if cost is None else sum(cost(tensor.name, tensor.shape, kind) for tensor in members),
                loss(cell, kind),
            )
            for kind in fitting
        ]
        if not any(option.cost for option in options):  # what costs nothing need not be larger than it helps
            options = [option for option in options if option.type.is_quantized] or options
        found[cell] = tuple(options[index] for index in undominated([(o.cost, o.loss) for o in options]))
    first = {cell: options[0].type for cell, options in found.items()}
    whole = planned(alternative, first, imatrix)
    rest = whole.header.file_size - sum(options[0].nbytes for options in found.values())
    inside = {name for names in alternative.cells.values() for name in names}
    outside = [tensor for tensor in whole.tensors if tensor.name not in inside]
    rest_cost = rest if cost is None else sum(cost(t.name, t.shape, t.type) for t in outside)
    return Problem(alternative, found, rest, rest_cost + beside, imatrix, loss, cost, beside)


def _covers(imatrix: Imatrix | None, names: Iterable[str]) -> bool:
    """Whether a matrix tells of all these tensors; an empty one, for sizes alone, stands for any."""
    return imatrix is not None and (not imatrix.entries or all(name in imatrix.entries for name in names))


def choose(problems: Sequence[Problem], budget: int) -> Choice | None:
    """The best of all alternatives; of equal ones the smallest file, and of those the first."""
    found: Choice | None = None
    for problem in problems:
        other = problem.best(budget, found.loss if found else inf)
        if other and (found is None or (other.loss, other.cost) < (found.loss, found.cost)):
            found = other
    return found


def frontier(problems: Sequence[Problem], steps: int) -> list[Choice]:
    """The best choices from the least budget to the one beyond which nothing is gained, in `steps` equal factors."""
    low, high = min(problem.least for problem in problems), max(problem.most for problem in problems)
    budgets = [round(low * (high / low) ** (step / (steps - 1))) for step in range(steps)]
    found: list[Choice] = []
    for budget in budgets:
        choice = choose(problems, budget)
        if choice is not None and (not found or choice.loss < found[-1].loss):
            found.append(choice)
    return found
