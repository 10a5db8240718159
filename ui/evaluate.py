"""`nemotron eval`: what a file is worth: its perplexity, and how far it is from the file that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import console
from nemotron_gguf.ui.imatrix import Devices
from nemotron_gguf.ui.options import option, with_groups
from nemotron_gguf.ui.placing import Placing, settings_of
from nemotron_gguf.ui.shelf import FILE_HELP, resolve

if TYPE_CHECKING:
    from nemotron_gguf.runner import Settings
    from nemotron_gguf.runner.measure.evaluation import Evaluation, Material, Reference
    from nemotron_gguf.runner.measure.exam import Marks
    from nemotron_gguf.runner.measure.measurer import Measurer
    from nemotron_gguf.runner.measure.texts import Text

READING, COMPARING = "What is read", "What it is compared with"


@dataclass(frozen=True)
class Reading:
    """The text, and how it goes through the model."""

    text: Annotated[
        list[Path] | None,
        option(READING, "Text or folder of texts; repeat it to mix several. Ours if not given.", "PATH"),
    ] = None
    chunks: Annotated[int | None, option(READING, "Read N chunks of the text; all if not given.", min=2)] = None
    ctx_size: Annotated[int, option(READING, "Tokens of a chunk; 512 if not given.", min=16)] = 512
    batch_size: Annotated[int, option(READING, "Tokens that go in together; 512 if not given.", min=16)] = 512
    ubatch_size: Annotated[int, option(READING, "Tokens computed at a time; 512 if not given.", min=16)] = 512


@dataclass(frozen=True)
class Comparing:
    """The reference, and where its logits are kept."""

    against: Annotated[
        str | None, option(COMPARING, "The file to compare with: F16, BF16, or the best there is.", "FILE.gguf")
    ] = None
    cache: Annotated[
        Path | None, option(COMPARING, "Keep the reference's logits there; beside it if not given.", "FILE")
    ] = None
    reference_format: Annotated[
        Literal["exact", "llama.cpp"],
        typer.Option(
            help="How they are kept: exact, or as llama-perplexity does (16 bits).", rich_help_panel=COMPARING
        ),
    ] = "exact"
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a report, and a cache of something else.", rich_help_panel=COMPARING),
    ] = False


@dataclass(frozen=True)
class Showing:
    """What comes of it."""

    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the scores of each token there; go on with them.")
    ] = None
    questions: Annotated[
        bool, typer.Option("--questions", help="Ask the demo model its questions as well: right answers of all.")
    ] = False
    html: Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Write a page with tables and plots.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command(name="eval")(with_groups(evaluate))


def evaluate(
    reading: Reading,
    comparing: Comparing,
    showing: Showing,
    devices: Devices,
    files: Annotated[list[str], typer.Argument(metavar="FILE.gguf…", help=FILE_HELP)],
) -> None:
    """Measure what files are worth: perplexity, and with --against the divergence from the file they were made of.

    The reference runs once; its logits are kept, bit for bit, so a file against itself reads 0. Several files make a
    table, with the differences between them and their errors, paired over tokens. On the processor with fixed batches
    unless --device or --n-gpu-layers says otherwise. Without --text a text is read that comes with the program, of
    which nothing was used to calibrate.

    Example: `nemotron eval nano-IQ4_XS.gguf nano-Q4_K_M.gguf --against nano-BF16.gguf --html report.html`
    """
    paths = [resolve(file) for file in files]
    _check(comparing, showing)
    found, reference = measure(paths, reading, comparing, devices, showing.keep)
    marks = [_ask(path) for path in paths] if showing.questions else []
    _show(found, reference, marks, showing)


def measure(
    paths: Sequence[Path], reading: Reading, comparing: Comparing, devices: Devices, keep: Path | None
) -> tuple[list[Evaluation], Reference | None]:
    """Run files over the text, in one process and with bars; `keep` is a folder for the scores of their tokens."""
    from nemotron_gguf.runner.measure.measurer import Measurer

    with Measurer(_window(reading, devices), _settings(devices), verbose=console.settings.debug) as measurer:
        reference = _reference(measurer, paths[0], reading, comparing)
        against = reference or _material(measurer, paths[0], reading)
        return [_evaluate(measurer, path, against, keep) for path in paths], reference


def scores_path(folder: Path, path: Path) -> Path:
    """Where the scores of a file's tokens are kept."""
    return folder / f"{path.stem}.scores"


def _check(comparing: Comparing, showing: Showing) -> None:
    if comparing.cache and not comparing.against and comparing.reference_format == "exact":
        raise typer.BadParameter("--cache keeps the logits of a reference; name it with --against")
    if showing.html and showing.html.exists() and not comparing.force:
        raise NemotronError(f"{showing.html} exists; say --force to replace it, or name another")
    if showing.keep:
        showing.keep.mkdir(parents=True, exist_ok=True)


def _window(reading: Reading, devices: Devices) -> Any:
    from nemotron_gguf.runner.measure.window import Window

    return Window(reading.ctx_size, devices.threads, reading.batch_size, reading.ubatch_size)


def _settings(devices: Devices) -> Settings | None:
    """Where models go by wish; None for the processor alone."""
    asked = asdict(devices)
    if all(value is None for name, value in asked.items() if name != "threads"):
        return None
    return settings_of(Placing(**asked))


def _material(measurer: Measurer, path: Path, reading: Reading) -> Material:
    """The text in chunks of a file's vocabulary."""
    return measurer.read(path, _texts(path, reading), reading.chunks)


def _texts(path: Path, reading: Reading) -> Sequence[str | Text]:
    from nemotron_gguf.runner import inspect_model
    from nemotron_gguf.runner.measure.reading import read_texts
    from nemotron_gguf.runner.measure.texts import held_out_texts

    return read_texts(reading.text) if reading.text else held_out_texts(inspect_model(path))


def _reference(measurer: Measurer, first: Path, reading: Reading, comparing: Comparing) -> Reference | None:
    """The reference's logits, computed where they are not there; None where nothing is compared."""
    llama = comparing.reference_format == "llama.cpp"
    if not comparing.against:
        if not llama or comparing.cache is None:
            return None
        return measurer.read_llama_reference(comparing.cache, _material(measurer, first, reading).chunks.bos)
    path = resolve(comparing.against)
    material = _material(measurer, path, reading)
    cache = comparing.cache or path.with_name(f"{path.name}.{'kld' if llama else 'logits'}")
    make = measurer.llama_reference if llama else measurer.reference

    def announce(nbytes: int) -> None:
        console.note(
            f"the logits of {path.name} for {material.n_predicted} tokens go to {cache}: {console.size(nbytes)}"
        )

    with _bar(f"Reference, {path.name}", material.chunks.n_ctx) as report:
        return make(path, material, cache, force=comparing.force, announce=announce, report=report)


def _evaluate(measurer: Measurer, path: Path, against: Reference | Material, folder: Path | None) -> Evaluation:
    keep = scores_path(folder, path) if folder else None
    n_ctx = measurer.window.n_ctx
    with _bar(path.name, n_ctx) as report:
        return measurer.evaluate(path, against, keep=keep, report=report)


def _ask(path: Path) -> Marks:
    from nemotron_gguf.runner import Settings, open_model
    from nemotron_gguf.runner.measure.exam import take_exam

    model = open_model(path, Settings(temperature=0), verbose=console.settings.debug)
    with model, _bar(f"Questions to {path.name}", 0) as report:
        return take_exam(model, report)


@contextmanager
def _bar(title: str, n_ctx: int) -> Iterator[Callable[[int, int], object]]:
    """A bar on a terminal: chunks, tokens a second, the time that is left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console.stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
               TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    with Progress(*columns, console=screen, disable=not screen.is_terminal or console.settings.debug) as bars:
        task = bars.add_task(title, total=None, speed="")

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            speed = bars.tasks[0].speed
            bars.update(task, speed=f"{speed * n_ctx:.0f} tokens/s" if speed and n_ctx else "")

        yield report


def _show(found: Sequence[Evaluation], reference: Reference | None, marks: Sequence[Marks], showing: Showing) -> None:
    from nemotron_gguf.ui import eval_tables

    if showing.html:
        from nemotron_gguf.ui.report.quality import write_report

        write_report(showing.html, found, reference, marks)
    if showing.as_json:
        console.print_json(eval_tables.described(found, reference, marks))
        return
    for line in eval_tables.lines(found, reference, marks):
        console.say(line)
    if showing.html:
        console.note(f"written: {showing.html}")
