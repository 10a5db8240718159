"""`nemotron inspect`: what a file holds, whether it can be run, and what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.shelf import FILE_HELP, look_at, resolve


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(inspect)


def inspect(
    file: Annotated[str, typer.Argument(metavar="MODEL", help=FILE_HELP)],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Say whether it fits on a card of that size, such as 16GiB.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="N", help="Say what it needs with that context, such as 256k.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="For so many answers at a time.")] = 1,
    cache_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Type of keys and values, such as Q8_0; F16 if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Say what a GGUF file holds: architecture, keys, tensors, sizes; and whether it can be run. Reads no weights.

    Of a repository that is not in the library yet, only the header is read, over the network. Ends with status 1 for a
    model that contradicts itself; a file that holds no whole model, such as a vocabulary, is told and no failure.

    Example: `nemotron inspect nano-Q4_K_M.gguf --memory 16GiB --context 256k --cache-type Q8_0`
    """
    from nemotron_gguf.models.gguf_parts import SPLIT_NO, read_whole
    from nemotron_gguf.models.gguf_reader import read_gguf
    from nemotron_gguf.runner.errors import NoModelError, RunnerError
    from nemotron_gguf.runner.preflight.check import check_model
    from nemotron_gguf.ui.describe import describe_file, print_file
    from nemotron_gguf.ui.memory import show_needs

    gguf = look_at(file)
    if gguf is None:
        path = resolve(file)
        gguf = read_gguf(path, header_alone=True)
    # the first of several stands for the model as a whole, any other part for itself
    if gguf.get(SPLIT_NO) == 0 and gguf.path.is_file():
        gguf = read_whole(gguf.path)
    if memory is not None or context is not None or parallel > 1 or cache_type is not None:
        show_needs(gguf, memory, context, parallel, cache_type, as_json=as_json)
        return
    problem = None
    try:
        check_model(gguf)
    except RunnerError as error:
        problem = error
    if as_json:
        console.print_json(describe_file(gguf, tensors, problem))
    else:
        print_file(gguf, tensors)
    if problem is None and not as_json:
        console.say("\nSound: the preflight found nothing amiss")
    elif isinstance(problem, NoModelError):
        console.note(str(problem))
    elif problem:
        console.error(str(problem))
        raise typer.Exit(1)
