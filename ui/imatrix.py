"""`nemotron imatrix`: which columns of each weight matter, found by running a model over text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.options import option, with_groups
from nemotron_gguf.ui.placing import PANEL, Placing, settings_of
from nemotron_gguf.ui.shelf import FILE_HELP, resolve

if TYPE_CHECKING:
    from nemotron_gguf.models.gguf_reader import GGUFFile
    from nemotron_gguf.models.imatrix import Partial
    from nemotron_gguf.runner import Client, Settings
    from nemotron_gguf.runner.measure.chunks import Chunks
    from nemotron_gguf.runner.measure.importance import Goal
    from nemotron_gguf.runner.measure.window import Window
    from nemotron_gguf.runner.placement.placement import Placement

OURS = "nemotron-gguf calibration text"
COLLECTING, COMBINING = "What is collected", "Without a model"


@dataclass(frozen=True)
class Collecting:
    """What is read, and of what."""

    text: Annotated[
        list[Path] | None,
        option(COLLECTING, "Text or folder of texts to read; repeat it to mix several. Ours if not given.", "PATH"),
    ] = None
    chunks: Annotated[int | None, option(COLLECTING, "Read N chunks of the text; all if not given.", min=1)] = None
    ctx_size: Annotated[int, option(COLLECTING, "Tokens of a chunk; 512 if not given.", min=16)] = 512
    until_covered: Annotated[
        int | None,
        option(COLLECTING, "Read (past --chunks) until each expert has seen N tokens, or the text ends.", min=1),
    ] = None
    process_output: Annotated[bool, typer.Option("--process-output", help="Collect for the output matrix as well.",
                                                 rich_help_panel=COLLECTING)] = False  # fmt: skip
    parse_special: Annotated[bool, typer.Option("--parse-special", rich_help_panel=COLLECTING,
                                                help="Take special tokens that are spelled out in --text for what they are.")] = False  # fmt: skip  # noqa: E501
    batch_size: Annotated[
        int, option(COLLECTING, "Tokens that go in together; 2048, or what 256 MiB of logits allow.", min=16)
    ] = 2048
    ubatch_size: Annotated[int, option(COLLECTING, "Tokens computed at a time; 512 if not given.", min=16)] = 512


@dataclass(frozen=True)
class Devices:
    """Where the model runs."""

    n_gpu_layers: Annotated[str | None, option(PANEL, "Layers on the GPU; as many as fit, if not given.", "N|all")] = (
        None
    )
    n_cpu_moe: Annotated[
        int | None, option(PANEL, "Keep the experts of the first N blocks on the processor.", min=0)
    ] = None
    override_tensor: Annotated[
        list[str] | None, option(PANEL, "Tensors whose name matches go there.", "REGEX=BUFFER")
    ] = None
    device: Annotated[str | None, option(PANEL, "Only these devices; none: the processor.", "NAME,…")] = None
    rpc: Annotated[str | None, option(PANEL, "Workers (llama.cpp's rpc-server) to use as well.", "HOST:PORT,…")] = None
    threads: Annotated[int | None, option(PANEL, "Threads on the processor.", min=1)] = None


@dataclass(frozen=True)
class Writing:
    """What becomes of it."""

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.gguf", show_default=False, help="File; MODEL.imatrix.gguf here."),
    ] = None
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave experts that no token reached at zero, as llama-imatrix does.")
    ] = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run, and with nothing else.")] = (
        False
    )
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an unfinished run left, begin anew.")] = False
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="For programs: lines of JSON, the result last.")] = False


@dataclass(frozen=True)
class Combining:
    """What can be done with matrices that are there."""

    merge: Annotated[
        list[Path] | None,
        option(COMBINING, "Add up matrices, GGUF or .dat, of one model; repeat it. One alone is filled.", "FILE"),
    ] = None
    statistics: Annotated[
        Path | None, option(COMBINING, "Show what a matrix tells about each tensor, and its coverage.", "FILE")
    ] = None


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command(name="imatrix")(with_groups(imatrix))


def imatrix(
    collecting: Collecting,
    writing: Writing,
    combining: Combining,
    devices: Devices,
    file: Annotated[str | None, typer.Argument(metavar="FILE.gguf", help="F16, BF16 or Q8_0. " + FILE_HELP)] = None,
) -> None:
    """Compute an importance matrix: how strongly each column of each weight is excited by a text.

    `quantize` and `build` take it with --imatrix and spend their bits where they count; types below 4 bits need one.
    The file is llama.cpp's, so its tools take it too. Without --text a text that comes with the program is read:
    English, Chinese, code, mathematics, tool calls and reasoning in the model's own format. A run that ends early goes
    on with the same command and ends in the same bytes.

    Example: `nemotron imatrix nano-BF16.gguf --until-covered 100 -o nano.imatrix.gguf`
    """
    from nemotron_gguf.ui import imatrix_files

    wishes = {"FILE.gguf": file, "--merge": combining.merge, "--statistics": combining.statistics}
    given = [name for name, value in wishes.items() if value]
    if len(given) != 1:
        raise typer.BadParameter(f"expected one of {', '.join(wishes)}, found {' and '.join(given) or 'none'}")
    if writing.resume and writing.restart:
        raise typer.BadParameter("--resume and --restart contradict each other")
    if combining.statistics:
        imatrix_files.show(combining.statistics, writing.as_json)
    elif combining.merge:
        imatrix_files.combine(combining.merge, writing)
    elif file:
        _compute(resolve(file), collecting, devices, writing)


def _compute(path: Path, collecting: Collecting, devices: Devices, writing: Writing) -> None:
    from nemotron_gguf.convert.writer.lock import Lock
    from nemotron_gguf.runner import Client, inspect_model
    from nemotron_gguf.runner.measure.importance import Goal
    from nemotron_gguf.ui.imatrix_files import refuse_existing

    target = writing.output or Path(f"{path.name.removesuffix('.gguf')}.imatrix.gguf")
    target = target / f"{path.stem}.imatrix.gguf" if target.is_dir() else target
    refuse_existing(target, writing.force, [path])
    goal = Goal(collecting.chunks, collecting.until_covered, collecting.process_output)
    file, settings = inspect_model(path), settings_of(Placing(**asdict(devices)))
    with Lock(target), Client(verbose=console.settings.debug) as engine:
        chunks, n_vocab, names = _chunks(engine, file, collecting)
        placement = _placement(engine, file, settings, _window(collecting).for_vocabulary(n_vocab))
        _make(engine, file, chunks, placement, goal, target, names, writing)


def _window(collecting: Collecting) -> Window:
    from nemotron_gguf.runner.measure.window import Window

    return Window(n_ctx=collecting.ctx_size, batch=collecting.batch_size, ubatch=collecting.ubatch_size)


def _chunks(engine: Client, file: GGUFFile, collecting: Collecting) -> tuple[Chunks, int, list[str]]:
    """The text in chunks, of a vocabulary of how many tokens, and its names for the file's keys."""
    import numpy as np

    from nemotron_gguf.runner.measure.chunks import cut
    from nemotron_gguf.runner.measure.reading import read_texts
    from nemotron_gguf.runner.measure.texts import calibration_texts

    if collecting.text:
        names = [str(path) for path in collecting.text]
        read = [engine.read_texts(file.path, read_texts(collecting.text), collecting.parse_special)]
    else:
        names, ours = [OURS], calibration_texts(file)
        read = [engine.read_texts(file.path, [text.text], text.special) for text in ours]
    tokens = [np.frombuffer(raw, np.int32).tolist() for part in read for raw in part.texts]
    bos = None if read[0].bos < 0 else read[0].bos
    return cut(tokens, collecting.ctx_size, bos), read[0].n_vocab, names


def _placement(engine: Client, file: GGUFFile, settings: Settings, window: Window) -> Placement:
    """Where the model goes, by what fits; as many chunks at a time as a batch holds."""
    from dataclasses import replace

    from nemotron_gguf.runner import set_up

    asked = replace(settings, ctx_size=window.parallel * window.n_ctx, parallel=window.parallel, lookup=0)
    plan = set_up(file, asked, engine).plan
    console.note(plan.describe())
    wanted = window.placement()
    placement = replace(plan.placement, batch=wanted.batch, ubatch=wanted.ubatch, ctx_size=wanted.ctx_size)
    return replace(placement, kv_unified=wanted.kv_unified)


def _make(
    engine: Client,
    file: GGUFFile,
    chunks: Chunks,
    placement: Placement,
    goal: Goal,
    target: Path,
    names: Sequence[str],
    writing: Writing,
) -> None:
    from nemotron_gguf.models.imatrix import remove_leftovers
    from nemotron_gguf.runner.measure import importance
    from nemotron_gguf.ui.imatrix_files import Result, tell, write
    from nemotron_gguf.ui.imatrix_progress import reporting

    partial = importance.partial_path(target)
    remove_leftovers(target)
    _take_up(partial, importance.binding(file, chunks, placement, goal), writing)
    with reporting(chunks.n_ctx, goal.until_covered, writing.as_json) as report:
        try:
            found = importance.collect(engine, file, chunks, placement, partial, goal, on_progress=report)
        except KeyboardInterrupt:
            console.note("what was read so far is kept: the same command goes on with it")
            raise
    filled = write(target, found.partial.entries, names, found.partial.chunks_done, chunks.n_ctx, raw=writing.raw)
    partial.unlink(missing_ok=True)
    remove_leftovers(partial)
    tell(Result(target, found.partial.entries, filled, found.partial.chunks_done, chunks.n_ctx, found.seconds,
                found.model_seconds, writing.raw), writing.as_json)  # fmt: skip


def _take_up(partial: Path, bound_to: str, writing: Writing) -> None:
    """Keep what an unfinished run left if it is of the same; begin anew, with a word, if it is not."""
    from nemotron_gguf.models.errors import ModelError
    from nemotron_gguf.models.imatrix import read_partial
    from nemotron_gguf.runner import RunnerError
    from nemotron_gguf.runner.measure.importance import differences

    if writing.restart:
        partial.unlink(missing_ok=True)
    if not partial.exists():
        if writing.resume:
            raise RunnerError(f"there is nothing to go on with: no {partial}; run the command without --resume")
        return
    try:
        found: Partial | None = read_partial(partial)
    except ModelError:
        found = None
    others = differences(found.bound_to, bound_to) if found else ["everything (it is damaged)"]
    if found and not others:
        console.note(f"going on after {found.chunks_done} chunks that an earlier run read")
        return
    if writing.resume:
        raise RunnerError(
            f"{partial} is of another run, different in: {', '.join(others)}; remove it, or say --restart"
        )
    console.note(f"{partial} is of another run (different in: {', '.join(others)}); beginning anew")
    partial.unlink(missing_ok=True)
