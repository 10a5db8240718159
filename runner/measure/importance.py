"""How strongly a text excites each weight's inputs: a model is run over chunks, and an importance matrix comes out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.imatrix import Partial, read_partial
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.measure import identity
from nemotron_gguf.runner.measure.chunks import Chunks
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.client import Client
from nemotron_gguf.runner.process.messages import Collect, Collected, Loading, Measured


@dataclass(frozen=True, slots=True)
class Goal:
    """What is collected: `n_chunks` of the text (None: all of it); with `until_covered`, from then on as many as it
    takes for each expert to have seen so many tokens. `process_output`: the output matrix as well.
    """

    n_chunks: int | None = None
    until_covered: int | None = None
    process_output: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """`loaded`: the share of the file; chunks done, and the most there can be; tokens of the least used expert."""

    loaded: float
    chunks: int = 0
    total: int = 0
    fewest: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """What was collected; seconds in libllama, the callback's among them, and in all."""

    partial: Partial
    model_seconds: float
    seconds: float


def partial_path(target: Path) -> Path:
    """Where an unfinished matrix lies, beside what it will become."""
    return target.with_name(target.name + ".part")


def binding(file: GGUFFile, chunks: Chunks, placement: Placement, goal: Goal) -> str:
    """What an unfinished matrix belongs to: the file, the text, and all that its numbers depend on.

    How many chunks are read is not among it: any number of them begins alike. Raises RunnerError.
    """
    bound = {
        "file": identity.model_of(file),
        "text": identity.text_of(chunks),
        "placement": asdict(placement),
        "process_output": goal.process_output,
        "llama-cpp-python": version("llama-cpp-python"),
    }
    return json.dumps(bound, sort_keys=True)


def differences(partial: str, wanted: str) -> list[str]:
    """In which respects an unfinished matrix belongs to something else."""
    with contextlib.suppress(ValueError):
        found, asked = json.loads(partial), json.loads(wanted)
        if isinstance(found, dict):
            return [key for key in asked if found.get(key) != asked[key]]
    return ["everything"]


def collect(
    engine: Client,
    file: GGUFFile,
    chunks: Chunks,
    placement: Placement,
    partial: Path,
    goal: Goal | None = None,
    *,
    on_progress: Callable[[Progress], object] | None = None,
    save_every: float = 5.0,
) -> Collection:
    """Run a file that has passed the preflight over chunks, going on from `partial` where that is there.

    `placement` has as many sequences as chunks go through it together. `partial` holds the sums at the end; after any
    kind of death it holds those of `save_every` seconds before. Raises RunnerError, EngineDiedError; ModelError where
    `partial` cannot be read or written.
    """
    goal = goal or Goal()
    most = chunks if goal.until_covered is not None else chunks.first(goal.n_chunks)
    task = Collect(
        bytes(file.path),
        placement,
        most.tokens.astype("<i4").tobytes(),
        chunks.n_ctx,
        bytes(partial),
        binding(file, chunks, placement, goal),
        bos=-1 if chunks.bos is None else chunks.bos,
        n_chunks=goal.n_chunks or 0,
        until_covered=goal.until_covered,
        process_output=goal.process_output,
        save_every=save_every,
    )
    say = on_progress or (lambda _progress: None)
    for body in engine.measure(task):
        if isinstance(body, Loading):
            say(Progress(body.share))
        elif isinstance(body, Collected):
            say(Progress(1, body.chunks, most.count, body.fewest))
        elif isinstance(body, Measured):
            if not body.complete:
                raise RunnerError("the collection was stopped; the same command goes on with it")
            return Collection(read_partial(partial), body.model_seconds, body.seconds)
    raise AssertionError("a measurement ends in Measured")
