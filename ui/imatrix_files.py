"""What the verb `imatrix` writes and says: files, coverage, statistics, matrices added up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.models.imatrix import Coverage, Statistics, Sums
    from nemotron_gguf.ui.imatrix import Writing

HARDLY = 32  # tokens: the mean squares of an expert that saw fewer are guesses


@dataclass(frozen=True, eq=False)
class Result:
    """A matrix that was written: what it was made of; seconds in all and in libllama."""

    path: Path
    entries: Mapping[str, Sums]
    filled: Mapping[str, Sequence[int]]
    chunks: int
    chunk_size: int
    seconds: float
    model_seconds: float
    raw: bool


def refuse_existing(target: Path, force: bool, sources: Sequence[Path]) -> None:
    """Raise BadParameter for a file that is read, ModelError for one that is there without --force."""
    from nemotron_gguf.models.errors import ModelError

    if target.exists() and any(source.exists() and target.samefile(source) for source in sources):
        raise typer.BadParameter(f"{target} is a file to be read; choose another name", param_hint="--output")
    if target.exists() and not force:
        raise ModelError(f"{target} exists already; choose another name or pass --force")


def write(
    target: Path, entries: Mapping[str, Sums], names: Sequence[str], chunks: int, chunk_size: int, *, raw: bool
) -> dict[str, tuple[int, ...]]:
    """Write a matrix, filled unless it shall be raw; returns what was filled."""
    from nemotron_gguf.models.imatrix import fill, write_imatrix

    shown, filled = (entries, {}) if raw else fill(entries)
    write_imatrix(target, shown, datasets=names, chunk_count=chunks, chunk_size=chunk_size, filled=filled)
    return filled


def combine(files: Sequence[Path], writing: Writing) -> None:
    """Add up matrices and write the sum."""
    from nemotron_gguf.convert.writer.lock import Lock
    from nemotron_gguf.models.imatrix import merge, read_imatrix

    if writing.output is None:
        raise typer.BadParameter("say where to: --merge needs --output", param_hint="--output")
    refuse_existing(writing.output, writing.force, files)
    with Lock(writing.output):
        found = merge([read_imatrix(file) for file in files])
        filled = write(
            writing.output, found.entries, found.datasets, found.chunk_count, found.chunk_size, raw=writing.raw
        )
    result = Result(writing.output, found.entries, filled, found.chunk_count, found.chunk_size, 0.0, 0.0, writing.raw)
    tell(result, writing.as_json)


def tell(result: Result, as_json: bool) -> None:
    """What was written, and which experts the text left out."""
    from nemotron_gguf.models.imatrix import coverage_of

    coverage = coverage_of({name: sums.counts for name, sums in result.entries.items()})
    if as_json:
        print(json.dumps(_described(coverage, result), ensure_ascii=False), flush=True)
        return
    tokens = result.chunks * result.chunk_size
    about = f"{len(result.entries)} entries, {tokens:,} tokens"
    console.say(f"{result.path}  {console.size(result.path.stat().st_size)}  {about}")
    for line in _words(coverage, result):
        console.note(line)


def _described(coverage: Sequence[Coverage], result: Result) -> dict[str, object]:
    """The last line for a program."""
    return {
        "event": "done",
        "path": str(result.path),
        "bytes": result.path.stat().st_size,
        "entries": len(result.entries),
        "chunks": result.chunks,
        "chunk_size": result.chunk_size,
        "seconds": round(result.seconds, 3),
        "model_seconds": round(result.model_seconds, 3),
        "filled": {name: list(parts) for name, parts in result.filled.items()},
        "coverage": [asdict(one) for one in coverage],
    }


def _words(coverage: Sequence[Coverage], result: Result) -> list[str]:
    """What a person should know of the experts."""
    lines = []
    if coverage:
        least = min(coverage, key=lambda one: one.smallest)
        middle = sorted(one.median for one in coverage)[len(coverage) // 2]
        n_experts = sum(one.n_experts for one in coverage)
        lines.append(
            f"{n_experts} experts: the least used saw {least.smallest} tokens (in {_layer(least.name)}), half of them"
            f" {middle:g} or more"
        )
        for one in coverage:
            if one.unreached:
                shown = ", ".join(map(str, one.unreached[:12])) + (" …" if len(one.unreached) > 12 else "")
                lines.append(f"{_layer(one.name)}: no token reached {len(one.unreached)} of {one.n_experts}: {shown}")
        if least.smallest < HARDLY:
            lines.append("more text makes it better: --text, more --chunks, or --until-covered 100")
    if result.filled:
        lines.append("experts that were not reached, or stayed silent, have their layer's mean (--raw leaves zeros)")
    return lines


def _layer(name: str) -> str:
    return ".".join(name.split(".")[:2])


def show(path: Path, as_json: bool) -> None:
    """Print the statistics and the coverage of a matrix."""
    from nemotron_gguf.models.imatrix import coverage_of, read_imatrix, statistics_of
    from nemotron_gguf.ui.placing import table

    matrix = read_imatrix(path)
    sums = {name: entry.sums for name, entry in matrix.entries.items()}
    statistics = statistics_of(sums)
    coverage = coverage_of({name: entry.counts for name, entry in sums.items()}, matrix.filled)
    if as_json:
        console.print_json(
            {
                "path": str(path),
                "datasets": list(matrix.datasets),
                "chunks": matrix.chunk_count,
                "chunk_size": matrix.chunk_size,
                "filled": {name: list(parts) for name, parts in (matrix.filled or {}).items()},
                "tensors": [asdict(one) for one in statistics],
                "coverage": [asdict(one) for one in coverage],
            }
        )
        return
    heads = ("tensor", "Σ(act²)", "min", "max", "mean", "σ", "active", "N", "entropy", "of max", "z > 1", "cosine")
    table([heads, *map(_row, statistics)])
    if coverage:
        console.say("")
        rows = [
            (
                one.name,
                str(one.n_experts),
                str(one.smallest),
                f"{one.median:g}",
                str(one.largest),
                str(len(one.unreached)),
            )
            for one in coverage
        ]
        table([("tokens of experts", "experts", "fewest", "median", "most", "unreached"), *rows])


def _row(one: Statistics) -> tuple[str, ...]:
    return (
        one.name, f"{one.total:.2f}", f"{one.smallest:.4f}", f"{one.largest:.4f}", f"{one.mean:.2f}",
        f"{one.deviation:.2f}", f"{100 * one.active:.2f} %", str(one.n_values), f"{one.entropy:.4f}",
        f"{100 * one.entropy_share:.2f} %", f"{100 * one.high:.2f} %",
        "" if one.cosine is None else f"{one.cosine:.4f}",
    )  # fmt: skip
