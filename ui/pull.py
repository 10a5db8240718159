"""`nemotron pull`: a checkpoint, or a model that is ready to run, from the Hub to the disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.convert.hub.pull import Asked, Goal, Pulled
    from nemotron_gguf.convert.hub.tally import FetchProgress

    Report = Callable[[FetchProgress], None]

EVERY = 1.0  # seconds between lines for a program
WORDS = {"checking": "Checking", "downloading": "Pulling", "verifying": "Verifying"}


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(pull)


def pull(
    source: Annotated[
        str, typer.Argument(metavar="ORG/NAME[@REV][:TYPE]", help="A Hub repository; of a GGUF one, which type.")
    ],
    out_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the files; the library, or the Hub's cache, if not given."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files of these names that are others, as older ones of the same.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: lines of JSON, of progress and at last of the result.")
    ] = False,
) -> None:
    """Download a ready GGUF (Q4_K_M unless you name a type), or a checkpoint, from the Hugging Face Hub.

    A GGUF comes to the library, where `chat` finds it by its name; a checkpoint to the Hub's cache, where every program
    of the Hub finds it. Whatever stops it, the same command goes on where it was, and a file has its name only when
    its checksum is right.

    Example: `nemotron pull unsloth/Nemotron-3-Nano-30B-A3B-GGUF:Q4_K_M`
    """
    from nemotron_gguf.convert.hub.pull import Goal, parse_asked
    from nemotron_gguf.models.shelf import library

    started = time.monotonic()
    pulled = bring(parse_asked(source), Goal(library(), out_dir, force=force), as_json)
    sizes = {path: path.stat().st_size for path in pulled.files}
    if as_json:
        files = [{"path": str(path), "bytes": size} for path, size in sizes.items()]
        _line(
            {"event": "done", "repository": pulled.repo_id, "commit": pulled.commit, "folder": str(pulled.folder),
             "files": files, "seconds": round(time.monotonic() - started, 3)}
        )  # fmt: skip
        return
    for path, size in sizes.items():
        console.say(f"{path}  {console.size(size)}")
    if not sizes:
        console.say(str(pulled.folder))
    elif out_dir is None:
        from nemotron_gguf.ui.shelf import hint

        hint(pulled.files[0])


def bring(asked: Asked, goal: Goal, as_json: bool = False) -> Pulled:
    """Pull with progress on the screen; Ctrl-C keeps what has come, and says so."""
    from nemotron_gguf.convert.hub.pull import pull
    from nemotron_gguf.convert.hub.tally import FetchOptions

    with _reporting(as_json) as report:
        try:
            return pull(asked, goal, FetchOptions(report, console.note))
        except (KeyboardInterrupt, SystemExit) as error:
            for line in getattr(error, "__notes__", ["stopped: the same command goes on there"]):
                console.note(line)
            raise


@contextmanager
def _reporting(as_json: bool) -> Iterator[Report]:
    if as_json:
        yield _lines()
        return
    with _bars() as report:
        yield report


def _lines() -> Report:
    """One line of JSON a second: bytes done and in all, bytes a second over the network, seconds left, the file."""
    begun: dict[str, tuple[float, int]] = {}
    last = time.monotonic()

    def report(at: FetchProgress) -> None:
        nonlocal last
        now, got = time.monotonic(), at.fetched if at.phase == "downloading" else at.done
        since, before = begun.setdefault(at.phase if at.phase == "downloading" else at.phase + at.file, (now, got))
        if now - last < EVERY:
            return
        last = now
        rate = (got - before) / max(now - since, 1e-9)
        left = round((at.total - at.done) / rate, 1) if rate else None
        _line({"event": "progress", "phase": at.phase, "done": at.done, "total": at.total, "rate": round(rate),
               "seconds_left": left, "file": at.file})  # fmt: skip

    return report


def _line(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


@contextmanager
def _bars() -> Iterator[Report]:
    """A bar for all that is pulled, and one for the file that is being read back."""
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

    screen = console.stderr()
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def report(at: FetchProgress) -> None:
            words = f"{WORDS[at.phase]} {escape(at.file)}"
            if at.phase not in tasks:
                tasks[at.phase] = bars.add_task(words, total=at.total, completed=at.done)
            bars.update(tasks[at.phase], description=words, completed=at.done, total=at.total)
            if at.phase != "downloading" and at.done >= at.total:
                bars.remove_task(tasks.pop(at.phase))

        yield report
