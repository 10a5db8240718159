"""Files of results beside their final names: whether they are what is wanted, and whether there is room for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.reference_logits import Layout, read_layout
from nemotron_gguf.models.token_scores import ScoresFile, Table
from nemotron_gguf.runner.errors import RunnerError


def usable(cache: Path, wanted: Layout, force: bool) -> Layout | None:
    """The layout of a file of logits that is what is wanted, or begins with it; None where there is none.

    Where there is another: None with `force`, else RunnerError or ModelError, which say what it is.
    """
    if not cache.exists():
        return None
    try:
        found = read_layout(cache)
        check_cache(cache, found, wanted)
    except (RunnerError, ModelError):
        if not force:
            raise
        return None
    return found


def check_cache(cache: Path, found: Layout, wanted: Layout) -> None:
    """Raises RunnerError for a file of logits that is not what is wanted, naming what differs."""
    for key in wanted.identity:
        was, shall_be = found.identity.get(key), wanted.identity[key]
        if was != shall_be:
            more = f" ({was}, not {shall_be})" if key == "setting" else ""
            raise RunnerError(f"{cache} is of another {key}{more}; name another --cache, or --force to replace it")
    sizes = (found.n_rows, found.n_vocab) == (wanted.n_rows, wanted.n_vocab)
    if not sizes or not np.array_equal(found.tokens[: len(wanted.tokens)], wanted.tokens):
        raise RunnerError(f"{cache} is of another text, or less of it; name another --cache, or --force to replace it")


def begins_with(path: Path, head: bytes) -> bool:
    """Whether a file begins so."""
    with path.open("rb") as file:
        return file.read(len(head)) == head


def check_room(part: Path, size: int) -> None:
    """Raises RunnerError where the disk has too little room for a file of `size` bytes."""
    there = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if size - there > free:
        raise RunnerError(
            f"the reference's logits take {size / 1e9:.1f} GB, {part.parent} has {free / 1e9:.1f} GB free; measure"
            " fewer --chunks, or name a --cache elsewhere"
        )


def part_of(path: Path) -> Path:
    """Where a file lies until it is complete."""
    return path.with_name(path.name + ".part")


@contextmanager
def kept(path: Path | None, table: Table) -> Iterator[ScoresFile | None]:
    """A file for a table of scores, begun or gone on with. Raises RunnerError where it cannot be."""
    if path is None:
        yield None
        return
    try:
        scores = ScoresFile(path, table)
    except OSError as error:
        raise RunnerError(f"{path} cannot be written: {error.strerror or error}") from error
    with scores:
        yield scores


def give_name(part: Path, path: Path) -> None:
    """A file is complete: it is brought to the disk, and named."""
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    part.replace(path)
