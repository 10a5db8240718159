"""Whether the files may be written at all: their names, their folders, the room on the disk."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.convert.writer.part_file import PartFile
from nemotron_gguf.models.gguf_parts import part_paths


@dataclass(frozen=True)
class Output:
    """A file to be written: its plan and its final name; `last` is named after all that are not (see split files)."""

    plan: FilePlan
    path: Path
    last: bool = False


def check_targets(outputs: Sequence[Output], force: bool) -> None:
    """Refuse, before any work, names that are taken or given twice, and folders that are missing or too full."""
    check_names(outputs)
    check_taken(outputs, force)
    needed: defaultdict[Path, int] = defaultdict(int)
    for output in outputs:
        size = output.plan.header.file_size
        needed[output.path.parent] += size - PartFile(output.path, size).allocated
    for folder, size in needed.items():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise ConvertError(
                f"{folder} has {free / 1e9:.2f} GB free, {size / 1e9:.2f} GB are needed; free some or write elsewhere"
            )


def check_names(outputs: Sequence[Output]) -> None:
    """Refuse names that are given twice, are folders, or lie in none."""
    seen: set[Path] = set()
    for output in outputs:
        if output.path.is_dir():
            raise ConvertError(f"{output.path} is a folder, expected the name of a file to write")
        if output.path in seen:
            raise ConvertError(f"two outputs have the name {output.path}; give each its own")
        if not output.path.parent.is_dir():
            what = "is no folder; choose another" if output.path.parent.exists() else "does not exist; make it first"
            raise ConvertError(f"{output.path.parent} {what}")
        seen.add(output.path)


def check_taken(outputs: Sequence[Output], force: bool) -> None:
    """Refuse names that are taken; whoever finished a file for one of them keeps it.

    Parts of a model whose first part is not there are no model, and are written anew.
    """
    for output in outputs:
        if output.path.exists() and not force and part_paths(output.path)[0].exists():
            raise Interrupted(f"{output.path} exists and is kept; remove it, choose another name or pass --force")
