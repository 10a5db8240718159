"""Writing planned files from the command line: what is shown meanwhile, for people and for programs."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nemotron_gguf.convert import FilePlan, Output, Progress

EVERY = 1.0  # seconds between lines for a program


@dataclass(frozen=True)
class Job:
    """A file that a verb makes."""

    plan: FilePlan
    path: Path


@dataclass(frozen=True)
class Wishes:
    """What the options of a verb say about writing, and what identifies its source."""

    title: str
    source: Mapping[str, Any]
    notes: Sequence[str] = ()
    threads: int | None = None
    readers: int = 2
    split_max_size: str | None = None
    force: bool = False
    restart: bool = False
    verify: bool = True
    dry_run: bool = False
    as_json: bool = False


def make(jobs: Sequence[Job], wishes: Wishes) -> None:
    """Write the planned files, or say what would be written."""
    from nemotron_gguf.convert import WriteOptions, write_files

    for line in wishes.notes:
        console.note(line)
    outputs = [output for job in jobs for output in outputs_of(job, wishes.split_max_size)]
    if wishes.dry_run:
        _describe(outputs, wishes.as_json)
        return
    started = time.monotonic()
    with reporting(wishes.title, [output.path for output in outputs], wishes.as_json) as report:
        options = WriteOptions(
            source=wishes.source,
            threads=wishes.threads,
            readers=wishes.readers,
            force=wishes.force,
            restart=wishes.restart,
            verify=wishes.verify,
            report=report,
            say=console.note,
        )
        try:
            write_files(outputs, options)
        except (KeyboardInterrupt, SystemExit) as error:
            for line in getattr(error, "__notes__", ()):
                console.note(line)
            raise
    _done(outputs, time.monotonic() - started, wishes.as_json)


def outputs_of(job: Job, split_max_size: str | None) -> list[Output]:
    """The files of a job: one, or its parts, of which the first is named last."""
    from nemotron_gguf.convert import Output
    from nemotron_gguf.convert.writer.split import parse_size, split_files

    if split_max_size is None:
        return [Output(job.plan, job.path)]
    files = split_files(job.plan, job.path, parse_size(split_max_size))
    return [Output(plan, path, last=index == 0) for index, (plan, path) in enumerate(files)]


def identity(*files: Path) -> list[dict[str, object]]:
    """What binds an unfinished run to local files: name, size and time of change."""
    return [{"name": f.name, "size": (s := f.stat()).st_size, "mtime_ns": s.st_mtime_ns} for f in files]


def digest_of(path: Path | None) -> str | None:
    """SHA-256 of a small file, such as an importance matrix."""
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(jobs: Sequence[Output], as_json: bool) -> None:
    described = [{"path": str(job.path), **job.plan.describe()} for job in jobs]
    if as_json:
        console.print_json(described[0] if len(described) == 1 else {"files": described})
        return
    for job in jobs:
        kinds = Counter(tensor.type.name for tensor in job.plan.tensors)
        mixture = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common())
        size = console.size(job.plan.header.file_size)
        console.say(f"{job.path}  {size}  {len(job.plan.tensors)} tensors: {mixture}")


def _done(outputs: Iterable[Output], seconds: float, as_json: bool) -> None:
    if as_json:
        files = [{"path": str(output.path), "bytes": output.plan.header.file_size} for output in outputs]
        print_line({"event": "done", "files": files, "seconds": round(seconds, 3)})
        return
    for output in outputs:
        console.say(f"{output.path}  {console.size(output.plan.header.file_size)}")


@contextmanager
def reporting(title: str, paths: Sequence[Path], as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield what `write_files` reports to: bars in a terminal, lines of JSON for a program, silence in a log."""
    if as_json:
        yield _lines(paths)
        return
    with _bars(title, paths) as report:
        yield report


def _lines(paths: Sequence[Path]) -> Callable[[Progress], None]:
    """One line of JSON a second: bytes done and in all, bytes a second, seconds left, the tensor, each file's bytes."""
    begun: dict[str, tuple[float, int]] = {}
    last = time.monotonic()

    def report(at: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        since, before = begun.setdefault(at.phase, (now, at.done))
        if now - last < EVERY:
            return
        last = now
        rate = (at.done - before) / max(now - since, 1e-9)
        files = [{"path": str(path), "bytes": size} for path, size in zip(paths, at.written, strict=False)]
        print_line({"event": "progress", "phase": at.phase, "done": at.done, "total": at.total, "rate": round(rate),
               "seconds_left": round((at.total - at.done) / rate, 1) if rate else None,
               "tensor": at.tensor, "files": files})  # fmt: skip

    return report


def print_line(value: object) -> None:
    """A line of JSON for a program, at once."""
    print(json.dumps(value, ensure_ascii=False), file=sys.stdout, flush=True)


@contextmanager
def _bars(title: str, paths: Sequence[Path]) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    words = {"checking": "Checking what is there", "writing": title, "verifying": "Reading it back"}
    screen = console.stderr()
    at: Progress | None = None

    class Lines(Bars):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if at is not None and at.written:
                yield Text(f"  {at.tensor}", style="dim", no_wrap=True, overflow="ellipsis")
                for path, size in zip(paths, at.written, strict=True):
                    yield Text(f"  {path.name}  {console.size(size)}", style="dim", no_wrap=True, overflow="ellipsis")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Lines(*columns, console=screen, disable=not screen.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def report(now: Progress) -> None:
            nonlocal at
            at = now
            if now.phase not in tasks:
                tasks[now.phase] = bars.add_task(words[now.phase], total=now.total, completed=now.done)
            bars.update(tasks[now.phase], completed=now.done, total=now.total)

        yield report
