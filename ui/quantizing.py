"""What `quantize` and `build` make of their options: kernels, types, and the neurons that a file can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.writing import EVERY, print_line

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.quant import QuantizeOptions
    from nemotron_gguf.quant.trimming import Trimming


def choose_kernels(wish: str) -> dict[str, str]:
    """Have it quantized so; returns what an unfinished run is bound to. What does not run here is misuse."""
    from nemotron_gguf.quant import QuantError, kernels

    try:
        kernels.choose(wish)
    except QuantError as error:
        if wish == "auto":  # the environment's word
            raise
        raise typer.BadParameter(str(error)) from error
    return kernels.identity()


def quantize_options(name: str, chosen: Mapping[str, Any]) -> QuantizeOptions:
    """The options of a verb, `chosen` being its arguments; a name that is none is misuse. Trimming comes later."""
    from nemotron_gguf.models.imatrix import read_imatrix
    from nemotron_gguf.quant import QuantError, QuantizeOptions, file_type, parse_tensor_type, tensor_type

    output, embedding = chosen["output_tensor_type"], chosen["token_embedding_type"]
    if chosen["trim"] and not chosen["imatrix"] and not chosen["dry_run"]:
        raise typer.BadParameter("needs an --imatrix, which tells the neurons that matter", param_hint="--trim")
    try:
        return QuantizeOptions(
            type=file_type(name),
            tensor_types=tuple(parse_tensor_type(text) for text in chosen["tensor_type"] or ()),
            output_tensor_type=tensor_type(output) if output else None,
            token_embedding_type=tensor_type(embedding) if embedding else None,
            leave_output_tensor=chosen["leave_output_tensor"],
            pure=chosen["pure"],
            allow_requantize=chosen["allow_requantize"],
            imatrix=read_imatrix(chosen["imatrix"]) if chosen["imatrix"] else None,
            dry_run=chosen["dry_run"],
            pad=chosen["pad"],
        )
    except QuantError as error:
        raise typer.BadParameter(str(error)) from error


def trimming(plan: FilePlan, options: QuantizeOptions, chosen: Mapping[str, Any]) -> Trimming:
    """The neurons to keep, for all files of one source, `chosen` being a verb's arguments.

    The matrices that read the neurons are read once for that; a dry run does without, its sizes are the same.
    """
    from nemotron_gguf.quant import choose_neurons, to_be_trimmed

    if chosen["dry_run"]:
        return to_be_trimmed(plan)
    assert options.imatrix is not None
    with reporting("Choosing neurons", "trimming", chosen["as_json"]) as report:
        return choose_neurons(plan, options.imatrix, report=report)


@contextmanager
def reporting(title: str, phase: str, as_json: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time left, or a line of JSON a second."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    if as_json:
        last = time.monotonic()

        def line(done: int, total: int, tensor: str) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                print_line({"event": "progress", "phase": phase, "done": done, "total": total, "tensor": tensor})

        yield line
        return
    screen = console.stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, _: bar.update(task, completed=done, total=total)
