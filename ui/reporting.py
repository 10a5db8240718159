"""`nemotron build --report`: gather what the page tells, measure where that is asked for, write it beside the files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemotron_gguf.models.errors import ModelError, NemotronError
from nemotron_gguf.ui import console
from nemotron_gguf.ui.quantizing import reporting
from nemotron_gguf.ui.shelf import resolve
from nemotron_gguf.ui.writing import print_line

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.convert.source.checkpoint import Checkpoint
    from nemotron_gguf.models.gguf_reader import GGUFFile
    from nemotron_gguf.quant.accuracy import TensorError
    from nemotron_gguf.runner.measure.evaluation import Evaluation

PANEL = "Report"
ENDING = "-report.html"


@dataclass(frozen=True)
class Reporting:
    """Whether there is a report, and what is measured for it."""

    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Write a page beside the files: sizes, types, errors, how to run.", rich_help_panel=PANEL
        ),
    ] = False
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.gguf",
            help="For the report: measure the divergence from that file, in BF16 or F16, as `eval` does (minutes).",
            rich_help_panel=PANEL,
        ),
    ] = None
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Text or folder to measure on; ours if not given.", rich_help_panel=PANEL),
    ] = None
    chunks: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Measure N chunks of 512 tokens; all if not given.", rich_help_panel=PANEL
        ),
    ] = None


def check_report(asked: Reporting, folder: Path, checkpoint: Checkpoint, dry_run: bool) -> Path | None:
    """The page to write, None for none. Before any work: what is asked for fits, and no page of others is replaced."""
    from nemotron_gguf.convert import default_name
    from nemotron_gguf.ui.report.page import GENERATOR

    if asked.against and not asked.report:
        raise typer.BadParameter("is for the report; say --report too", param_hint="--against")
    if (asked.chunks or asked.text) and not asked.against:
        raise typer.BadParameter("are for measuring; say --against too", param_hint="--text and --chunks")
    if asked.against:
        resolve(asked.against)
    if not asked.report or dry_run:
        return None
    path = folder / default_name(checkpoint, "report").replace(".gguf", ".html")
    if path.exists() and f'name="generator" content="{GENERATOR}"' not in path.read_text("utf-8", "replace"):
        raise NemotronError(f"{path} exists and is no report of this program; move it away")
    return path


def write_report(
    asked: Reporting, path: Path, made: Mapping[Path, FilePlan], notes: Sequence[str], as_json: bool
) -> None:
    """Write the page about files that were just made, and about others of the same model that lie beside them.

    `made` has the plan of each file, by its path or that of its first part.
    """
    from nemotron_gguf.quant.accuracy import tensor_errors
    from nemotron_gguf.ui.report.built import Built, build_page
    from nemotron_gguf.ui.report.page import write_page

    files = {one: _header(one) for one in made}
    files |= _earlier(path, next(iter(files.values())), files)
    evaluations = _evaluations(asked, files, list(made))
    found = []
    for one, file in files.items():
        errors: Sequence[TensorError] = ()
        if one in made:
            with reporting(f"Errors of {one.name}", "sampling", as_json) as report:
                errors = tensor_errors(made[one], report)
        found.append(Built(file, errors, evaluations.get(one)))
    found.sort(key=lambda one: -one.file.file_size)
    write_page(path, build_page(_model(path), found, notes))
    if as_json:
        print_line({"event": "report", "path": str(path)})
    else:
        console.say(str(path))


def _model(path: Path) -> str:
    return path.name.removesuffix(ENDING)


def _header(path: Path) -> GGUFFile:
    """A file, or all parts as one."""
    from nemotron_gguf.models.gguf_parts import SPLIT_NO, read_whole
    from nemotron_gguf.models.gguf_reader import read_gguf

    file = read_gguf(path)
    return read_whole(path) if file.get(SPLIT_NO) == 0 else file


def _earlier(path: Path, of: GGUFFile, made: Collection[Path]) -> dict[Path, GGUFFile]:
    """Files beside the page that are of the same model: the same name in their keys, the same tensors."""
    from nemotron_gguf.models.gguf_parts import part_name

    names = {tensor.name for tensor in of.tensors}
    found: dict[Path, GGUFFile] = {}
    for one in sorted(path.parent.glob("*.gguf")):
        part = part_name(one)
        if one in made or not one.name.startswith(_model(path)) or (part and part.number > 1):
            continue
        with suppress(ModelError):  # unfinished, or no model: no affair of this page
            file = _header(one)
            if file.get("general.name") == of.get("general.name") and {t.name for t in file.tensors} == names:
                found[one] = file
    return found


def _evaluations(asked: Reporting, files: Mapping[Path, GGUFFile], made: Sequence[Path]) -> dict[Path, Evaluation]:
    """Measured now, where that is asked for, or earlier; those alone that are of one text and reference."""
    from nemotron_gguf.ui.evaluate import Comparing, Reading, measure
    from nemotron_gguf.ui.imatrix import Devices

    if asked.against:
        reading = Reading(text=asked.text, chunks=asked.chunks)
        measure(made, reading, Comparing(against=asked.against), Devices(), made[0].parent)
    kept = {one: found for one, file in files.items() if (found := _kept(one, file)) is not None}
    if not kept:
        return {}
    first = next((kept[one][0] for one in made if one in kept), next(iter(kept.values()))[0])
    return {one: evaluation for one, (what, evaluation) in kept.items() if what == first}


def _kept(path: Path, file: GGUFFile) -> tuple[tuple[str | None, ...], Evaluation] | None:
    """What `eval --keep` left beside a file, and what it was measured with; None where nothing is of this file."""
    from nemotron_gguf.models.token_scores import read_scores
    from nemotron_gguf.runner.measure.evaluation import Evaluation
    from nemotron_gguf.runner.measure.identity import model_of
    from nemotron_gguf.runner.measure.values import COLUMNS
    from nemotron_gguf.ui.evaluate import scores_path

    scores = scores_path(path.parent, path)
    if not scores.exists():
        return None
    try:
        table, values = read_scores(scores)
    except ModelError as error:
        console.note(str(error))
        return None
    if table.columns != COLUMNS or "reference" not in table.identity or table.identity.get("file") != model_of(file):
        return None
    n_weights = sum(tensor.n_elements for tensor in file.tensors)
    measured_with = tuple(table.identity.get(key) for key in ("text", "reference", "setting"))
    return measured_with, Evaluation(path, file.file_size, n_weights, values, True, 0, 0.0, 0.0)
