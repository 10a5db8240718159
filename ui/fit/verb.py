"""`nemotron fit`: the types, and the widths, with which a model fits a budget and loses least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.file_options import Imatrix, KeepSource
from nemotron_gguf.ui.fit.goal import RESERVE, Goal, goal_of
from nemotron_gguf.ui.options import option, with_groups

if TYPE_CHECKING:
    from nemotron_gguf.models.divergences import Divergence
    from nemotron_gguf.quant.fit.choice import Choice, Problem
    from nemotron_gguf.ui.fit.show import Row
    from nemotron_gguf.ui.fit.study import Source, Study

STEPS = 16
BUDGET, CARD, KNOWN, MEASURING = "What it has to fit", "The card", "What is known", "Measuring"


@dataclass(frozen=True)
class Budget:
    """One of three ways to say it."""

    memory: Annotated[str | None, option(BUDGET, "The memory that a card reports, such as 16GiB.", "SIZE")] = None
    size: Annotated[str | None, option(BUDGET, "The size of the file, such as 14.6GB.", "SIZE")] = None
    bpw: Annotated[float | None, option(BUDGET, "Bits for each of the model's weights.", "BITS", min=0.5, max=32)] = (
        None
    )
    list_cards: Annotated[
        bool, typer.Option("--list-cards", help="Say what file and context 8 to 32 GiB run.", rich_help_panel=BUDGET)
    ] = False


@dataclass(frozen=True)
class Card:
    """What has to go there beside the weights."""

    context: Annotated[str | None, option(CARD, "Tokens of context, for all sequences; 128k if not given.", "N")] = None
    parallel: Annotated[int, option(CARD, "Sequences at a time.", "N", min=1)] = 1
    cache_type: Annotated[
        str | None, option(CARD, "Type of keys and values, such as Q8_0; F16 if not given.", "TYPE")
    ] = None
    reserve: Annotated[
        str, option(CARD, "Kept free for driver and desktop: 1GiB; 0.5GiB does without a display.", "SIZE")
    ] = RESERVE


@dataclass(frozen=True)
class Known:
    """What the choice rests on."""

    table: Annotated[
        Path | None, option(KNOWN, "Measured divergences; NAME.divergences.jsonl if it is there.", "FILE")
    ] = None
    allow_trim: Annotated[
        bool, typer.Option("--allow-trim", help="Leave out neurons where that is better.", rich_help_panel=KNOWN)
    ] = False
    sample: Annotated[
        bool,
        typer.Option("--sample/--no-sample", help="Try the types on a few rows of the weights.", rich_help_panel=KNOWN),
    ] = True


@dataclass(frozen=True)
class Measuring:
    """A table of divergences is made."""

    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure what the table lacks, then the choice.", rich_help_panel=MEASURING),
    ] = False
    text: Annotated[
        list[Path] | None, option(MEASURING, "Text to measure on; may be repeated. Ours if not given.", "PATH")
    ] = None
    parse_special: Annotated[
        bool,
        typer.Option("--parse-special", help="Special tokens in --text are what they are.", rich_help_panel=MEASURING),
    ] = False
    chunks: Annotated[int, option(MEASURING, "Chunks of 512 tokens; 32 if not given.", "N", min=2)] = 32
    types_per_class: Annotated[int, option(MEASURING, "Types that a class is measured in; 4.", "N", min=1, max=5)] = 4
    threads: Annotated[int | None, option(MEASURING, "Threads that measure.", "N", min=1)] = None
    work: Annotated[Path | None, option(MEASURING, "Where variants are made; a cache folder.", "DIR")] = None


@dataclass(frozen=True)
class Result:
    """What becomes of it."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.toml", show_default=False, help="The recipe; NAME-BUDGET.toml here."
        ),
    ] = None
    apply: Annotated[bool, typer.Option("--apply", help="Build the file as well.")] = False
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with the plot.")] = None
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command(name="fit")(with_groups(fit))


def fit(
    budget: Budget,
    card: Card,
    known: Known,
    measuring: Measuring,
    result: Result,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A checkpoint's folder, a Hub repository, or a GGUF file.")
    ],
    imatrix: Imatrix = None,
    keep_source: KeepSource = False,
) -> None:
    """Find the types, and the widths, with which a model fits a card, a size or bits a weight, and loses least.

    Types are chosen by class of tensor (expert up, Mamba out, …), the ends of the model apart, from the divergence that
    each class has in each type: measured with --calibrate, else as documented for the family and scaled by the error on
    sampled rows. The result is a recipe, which `build --recipe` and `quantize --recipe` take and which you may edit.

    Example: `nemotron fit nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 --memory 16GiB --imatrix nano.imatrix.gguf`
    """
    from nemotron_gguf.models.imatrix import read_imatrix
    from nemotron_gguf.ui.fit.cards import list_cards
    from nemotron_gguf.ui.fit.study import open_source

    if known.allow_trim and imatrix is None:
        raise typer.BadParameter("needs an --imatrix, which tells the neurons that matter", param_hint="--allow-trim")
    weights = read_imatrix(imatrix) if imatrix else None
    with open_source(source, keep_source=keep_source, quiet=result.as_json) as opened:
        table = known.table or Path(f"{opened.name}.divergences.jsonl")
        if budget.list_cards:
            found = _study(opened, weights, table, known, result.as_json)
            list_cards(found, card.context, card.parallel, card.cache_type, as_json=result.as_json)
            return
        limits = (card.context, card.parallel, card.cache_type, card.reserve)
        goal = goal_of(budget.memory, budget.size, budget.bpw, limits, opened.n_weights)
        target = result.output or Path(f"{opened.name}-{goal.name}.toml")
        _check_new(result, target)
        if measuring.calibrate:
            try:
                found, problems, choice = _measured(opened, imatrix, table, known, measuring, goal, result.as_json)
            except KeyboardInterrupt:
                console.note(f"stopped; the same command goes on with what {table} holds")
                raise
        else:
            found = _study(opened, weights, table, known, result.as_json)
            problems = found.problems(goal.use)
            choice = _best(problems, goal)
        _tell(found, problems, choice, goal, target, result, imatrix)
    if result.apply:
        _build(source, target, imatrix, result)


def _check_new(result: Result, target: Path) -> None:
    from nemotron_gguf.models.errors import NemotronError

    for path in (target, result.html):
        if path is not None and path.exists() and not result.force:
            raise NemotronError(f"{path} exists already; choose another name or pass --force")


def _study(opened: Source, weights: Any, table: Path, known: Known, quiet: bool) -> Study:
    """All that is known without measuring."""
    from nemotron_gguf.models.divergences import read_divergences
    from nemotron_gguf.ui.fit.study import bars, neurons_of, study

    measured: dict[str, Divergence] = {}
    if table.exists() or known.table:
        found = read_divergences(table)
        is_other = found.setting.source not in ("", opened.digest)
        if is_other:
            kept = "it is taken all the same" if known.table else "it is left out (--table FILE takes it)"
            console.note(f"{table} was measured of other files ({found.setting.name}): {kept}")
        measured = {} if is_other and not known.table else dict(found.cells)
    elif not quiet:
        console.note("nothing was measured of this model: the family's defaults are taken (--calibrate measures)")
    with bars(quiet=quiet) as report:
        neurons = neurons_of(opened, weights, report) if known.allow_trim else None
        return study(opened, weights, measured, sampled=known.sample, neurons=neurons, report=report)


def _best(problems: Sequence[Problem], goal: Goal) -> Choice:
    """The best choice. Raises QuantError where nothing fits, with what would."""
    from nemotron_gguf.quant import QuantError
    from nemotron_gguf.quant.fit.choice import choose

    choice = choose(problems, goal.budget)
    if choice is None:
        least = min(problem.least for problem in problems)
        more = "a smaller --context, a larger --memory, --cache-type Q8_0" if goal.use else "a larger budget"
        raise QuantError(
            f"no file of this model fits: the smallest takes {least} bytes of the budget's {goal.budget};"
            f" try {more}, an --imatrix (types below 3 bits need one) or --allow-trim"
        )
    return choice


def _measured(
    opened: Source, imatrix: Path | None, table: Path, known: Known, measuring: Measuring, goal: Goal, quiet: bool
) -> tuple[Study, Sequence[Problem], Choice]:
    """Calibrate and search, each file's divergence measured. Raises QuantError where nothing fits."""
    from nemotron_gguf.models.imatrix import read_imatrix
    from nemotron_gguf.ui.fit.measuring import Wish, laboratory
    from nemotron_gguf.ui.fit.search import search
    from nemotron_gguf.ui.fit.study import bars, neurons_of, study

    weights = read_imatrix(imatrix) if imatrix else None
    wish = Wish(
        tuple(measuring.text or ()), measuring.parse_special, measuring.chunks, measuring.types_per_class,
        measuring.threads, measuring.work,
    )  # fmt: skip
    with bars(quiet=quiet) as report, laboratory(opened, imatrix, weights, table, wish, report) as lab:
        lab.calibrate(weights, wish.depth)
        neurons = None
        if known.allow_trim:
            assert weights is not None
            neurons = neurons_of(opened, weights, report)
            lab.measure_trimming(neurons)
        start = study(opened, weights, lab.table.cells, sampled=known.sample, neurons=neurons, report=report)
        _best(start.problems(goal.use), goal)  # what cannot fit is told before anything is measured for it
        found = search(lab, lambda measured: replace(start, measured=measured).problems(goal.use), goal.budget)
        assert found
        return replace(start, measured=lab.table.cells), found.problems, found.choice


def _rows(found: Study, problems: Sequence[Problem], choice: Choice, goal: Goal) -> list[Row]:
    """The frontier, with the chosen file in its place."""
    from nemotron_gguf.quant.fit.choice import frontier
    from nemotron_gguf.ui.fit.room import longest_context, needs_of_plan
    from nemotron_gguf.ui.fit.show import Row

    others = [one for one in frontier(problems, STEPS) if one.key != choice.key]
    rows = []
    for one in sorted([*others, choice], key=lambda one: one.nbytes):
        context = None
        if goal.use:
            needs = needs_of_plan(one.sketch(found.imatrix))
            context = longest_context(needs, goal.use, goal.budget)
        bits = 8 * one.nbytes / found.source.n_weights
        rows.append(Row(one, bits, found.measured.get(one.key), context, one is choice))
    return rows


def _tell(
    found: Study,
    problems: Sequence[Problem],
    choice: Choice,
    goal: Goal,
    target: Path,
    result: Result,
    imatrix: Path | None,
) -> None:
    """Write the recipe, and show what was chosen and between what."""
    from nemotron_gguf.ui.fit import show
    from nemotron_gguf.ui.fit.recipes import write_recipe

    rows = _rows(found, problems, choice, goal)
    chosen = next(row for row in rows if row.is_chosen)
    write_recipe(target, choice, goal.name, chosen.measured, imatrix, found.source.name)
    if result.html:
        show.write_html(result.html, found.source.name, rows, found.measured)
    if result.as_json:
        described = [row.describe() for row in rows]
        console.print_json(
            {"recipe": str(target), "budget": goal.budget, "chosen": chosen.describe(), "frontier": described}
        )
        return
    show.show_rows(rows)
    for line in show.plot(rows):
        console.say(line)
    console.say(f"Chosen: {choice.nbytes} bytes, {chosen.bits_per_weight:.3f} bits a weight; {show.widths(choice)}")
    show.show_types(choice)
    if goal.use:
        console.say(show.words_of(choice, found.imatrix, goal))
    console.say(f"{target}: take it with --recipe")


def _build(source: str, recipe: Path, imatrix: Path | None, result: Result) -> None:
    """Go on as `build` or `quantize` would."""
    from nemotron_gguf.ui import files
    from nemotron_gguf.ui.reporting import Reporting

    common: dict[str, Any] = {"imatrix": imatrix, "force": result.force, "as_json": result.as_json}
    if source.lower().endswith(".gguf"):
        files.quantize(source, recipe=recipe, **common)
    else:
        files.build(source, Reporting(), recipe=[recipe], **common)
