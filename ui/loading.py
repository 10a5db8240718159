"""A model is opened with a bar that says how long it will take: files of many gigabytes are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.runner import ChatModel, Settings


def open_with_bar(path: str | Path, settings: Settings | None = None) -> ChatModel:
    """`runner.open_model`, with a word before, a bar meanwhile (on a terminal), and what was chosen after it.

    What cannot be loaded is refused before the word.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from nemotron_gguf.runner import open_model

    screen = console.stderr()
    columns = (TextColumn("loading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    verbose = console.settings.debug  # llama.cpp's own log and a bar would be drawn over each other
    progress = Progress(*columns, console=screen, transient=True, disable=verbose or not screen.is_terminal)
    task = progress.add_task("loading", total=1.0)

    is_begun = False

    def show(share: float) -> None:
        nonlocal is_begun
        if not is_begun:
            console.note(f"loading {path} …")
            progress.start()
            is_begun = True
        progress.update(task, completed=share)

    try:
        model = open_model(path, settings, verbose=verbose, on_progress=show)
    finally:
        progress.stop()
    console.note(model.describe())
    for note in model.setup.plan.notes:
        console.note(note)
    return model
