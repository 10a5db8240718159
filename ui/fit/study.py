"""What is known of a model before a file is chosen: its plan, its importance, its errors, what was measured of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.models.divergences import Divergence
from nemotron_gguf.ui import console
from nemotron_gguf.ui.fit.room import cost_on_card, needs_of_plan, sum_of
from nemotron_gguf.ui.writing import identity

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.models.ggml import GGMLType
    from nemotron_gguf.models.imatrix import Imatrix
    from nemotron_gguf.models.needs import Needs, Use
    from nemotron_gguf.quant.classes import Cell
    from nemotron_gguf.quant.fit.alternative import Alternative
    from nemotron_gguf.quant.fit.choice import Problem
    from nemotron_gguf.quant.fit.predict import Prediction
    from nemotron_gguf.quant.trimming import Trimming

MOST_F32 = 4 << 30  # bytes of a file in F32 that is measured against; a larger model is its own reference
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """A model to be quantized: its plan, its name, what binds work on it to it, and its file where it is one."""

    plan: FilePlan
    name: str
    identity: object
    path: Path | None = None

    @property
    def digest(self) -> str:
        """What tells its files from others."""
        text = json.dumps(self.identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def n_weights(self) -> int:
        """Weights, before any padding."""
        return sum(prod(tensor.shape) for tensor in self.plan.tensors)


@contextmanager
def open_source(text: str, *, keep_source: bool, quiet: bool) -> Iterator[Source]:
    """A checkpoint (a folder, a repository) or a GGUF file. Raises NemotronError."""
    from nemotron_gguf.convert import open_checkpoint, plan_conversion
    from nemotron_gguf.models.catalogue import plain_name
    from nemotron_gguf.quant import files_of, plan_of_file
    from nemotron_gguf.ui.shelf import resolve

    if text.lower().endswith(".gguf"):
        path = resolve(text)
        stem = path.name.removesuffix(".gguf")
        for ending in ("-F32", "-F16", "-BF16"):
            stem = stem.removesuffix(ending)
        yield Source(plan_of_file(path), stem, identity(*files_of(path)), path)
        return
    with open_checkpoint(text, keep_source=keep_source, progress=not quiet) as checkpoint:
        plan = plan_conversion(checkpoint)
        if 2 * plan.header.file_size <= MOST_F32:
            plan = plan_conversion(checkpoint, "f32")
        yield Source(plan, plain_name(checkpoint.name) or "model", checkpoint.identity())


@dataclass(frozen=True)
class Study:
    """A source with all that a choice rests on; `measured` are the cells of a table, `trim` the neurons to keep."""

    source: Source
    imatrix: Imatrix | None
    errors: Mapping[tuple[Cell, GGMLType], float]
    measured: Mapping[str, Divergence]
    trim: Trimming | None = None

    @property
    def prediction(self) -> Prediction:
        """What the choice expects of each type."""
        from nemotron_gguf.quant.fit.alternative import Alternative
        from nemotron_gguf.quant.fit.predict import Prediction

        cells = Alternative(self.source.plan).cells
        return Prediction(self.errors, {cell: len(names) for cell, names in cells.items()}, self.measured)

    def alternatives(self) -> list[Alternative]:
        """All widths that a file may have, with what trimming costs."""
        from nemotron_gguf.quant.fit.alternative import alternatives

        predicted, trim = self.prediction, self.trim
        found = []
        for one in alternatives(self.source.plan, trim):
            lost = (
                predicted.of_trimming([d.value for d in one.trim.dimensions], trim.error) if one.trim and trim else 0.0
            )
            found.append(replace(one, lost=lost))
        return found

    def problems(self, use: Use | None = None) -> list[Problem]:
        """What the solver chooses from: within the size of a file, or with a `use` within the memory of a card."""
        from nemotron_gguf.quant.fit.choice import problem_of

        if use is None:
            return [problem_of(one, self.prediction.of, self.imatrix) for one in self.alternatives()]
        found = []
        for problem, needs in self._on_a_card:
            parts = sum_of(needs, use)
            found.append(problem.with_beside(parts.cache + parts.state + parts.compute))
        return found

    @cached_property
    def _on_a_card(self) -> list[tuple[Problem, Needs]]:
        """The same within a card's memory as long as no context is there, and what the model needs in those widths."""
        from nemotron_gguf.quant.fit.alternative import planned
        from nemotron_gguf.quant.fit.choice import problem_of

        loss = self.prediction.of
        needs = ((one, needs_of_plan(planned(one, {}, self.imatrix))) for one in self.alternatives())
        return [(problem_of(one, loss, self.imatrix, cost_on_card(need)), need) for one, need in needs]


def study(
    source: Source,
    imatrix: Imatrix | None,
    measured: Mapping[str, Divergence],
    *,
    sampled: bool,
    neurons: Trimming | None,
    report: Report,
) -> Study:
    """Read what has to be read of the weights: a few rows, for the errors of the types."""
    from nemotron_gguf.quant.fit.alternative import Alternative
    from nemotron_gguf.quant.fit.sampled import relative_errors, sample
    from nemotron_gguf.quant.fit.types import QUANTIZED

    plain = Alternative(source.plan)
    errors: Mapping[tuple[Cell, GGMLType], float] = {}
    if sampled:
        rows = sample(plain.tensors, plain.cells, imatrix, lambda done, total: report("Reading rows", done, total))
        errors = relative_errors(rows, QUANTIZED, lambda done, total: report("Trying types on them", done, total))
    return Study(source, imatrix, errors, measured, neurons)


def neurons_of(source: Source, imatrix: Imatrix, report: Report) -> Trimming:
    """The neurons that would stay, which takes reading all the matrices that read them. Raises QuantError."""
    from nemotron_gguf.quant import choose_neurons

    return choose_neurons(source.plan, imatrix, report=lambda done, total, _: report("Choosing neurons", done, total))


@contextmanager
def bars(*, quiet: bool) -> Iterator[Report]:
    """A bar for each thing that takes time, with the time left."""
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    screen = console.stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def report(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = bar.add_task(title, total=total)
            bar.update(tasks[title], completed=done, total=total)

        yield report
