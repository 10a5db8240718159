"""What is shown while importance is collected: bars with the time left, or lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.runner.measure.importance import Progress

Report: TypeAlias = "Callable[[Progress], None]"
EVERY = 1.0  # seconds between lines for a program


@contextmanager
def reporting(chunk_size: int, until_covered: int | None, as_json: bool) -> Iterator[Report]:
    """Yield what is told of each step."""
    if as_json:
        yield _lines(chunk_size)
        return
    with _bars(until_covered) as report:
        yield report


def _lines(chunk_size: int) -> Report:
    """A line a second: chunks done and in all, tokens a second, seconds left, tokens of the least used expert."""
    begun: tuple[float, int] | None = None
    last = 0.0

    def report(at: Progress) -> None:
        nonlocal begun, last
        now = time.monotonic()
        if at.total and begun is None:
            begun = now, at.chunks
        if now - last < EVERY:
            return
        last = now
        since, before = begun or (now, 0)
        rate = (at.chunks - before) / (now - since) if now > since else 0.0
        line = {
            "event": "progress", "phase": "reading" if at.total else "loading", "loaded": round(at.loaded, 4),
            "done": at.chunks, "total": at.total, "fewest": at.fewest, "rate": round(rate * chunk_size, 1),
            "seconds_left": round((at.total - at.chunks) / rate, 1) if rate else None,
        }  # fmt: skip
        print(json.dumps(line), flush=True)

    return report


@contextmanager
def _bars(until_covered: int | None) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    screen = console.stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[covered]}"),
    )
    with Bars(*columns, console=screen, disable=not screen.is_terminal or console.settings.debug) as bars:
        loading = bars.add_task("Loading, %", total=100, covered="")
        reading = bars.add_task("Reading, chunks", total=None, covered="", visible=False, start=False)

        def report(at: Progress) -> None:
            bars.update(loading, completed=int(100 * at.loaded))
            if not at.total:
                return
            if not bars.tasks[reading].started:
                bars.start_task(reading)
            goal = f" of {until_covered}" if until_covered else ""
            covered = f"least used expert: {at.fewest}{goal} tokens"
            bars.update(reading, completed=at.chunks, total=at.total, covered=covered, visible=True)

        yield report
