"""`nemotron bench`: how fast a model runs on this machine, in the terms of llama-bench."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.loading import open_with_bar
from nemotron_gguf.ui.options import with_groups
from nemotron_gguf.ui.placing import Placing, settings_of
from nemotron_gguf.ui.shelf import FILE_HELP, resolve

if TYPE_CHECKING:
    from nemotron_gguf.runner import ChatModel
    from nemotron_gguf.runner.bench import Measure, Result


SMALLEST = 512  # tokens of context, whatever is measured


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(with_groups(bench))


def bench(
    file: Annotated[str, typer.Argument(metavar="MODEL", help=FILE_HELP)],
    placing: Placing,
    n_prompt: Annotated[
        str, typer.Option("--n-prompt", "-p", metavar="N,…", help="Read prompts of N tokens; 0 leaves it out.")
    ] = "512",
    n_gen: Annotated[
        str, typer.Option("--n-gen", "-n", metavar="N,…", help="Generate N tokens; 0 leaves it out.")
    ] = "128",
    depth: Annotated[
        str, typer.Option("--depth", "-d", metavar="N,…", help="With so many tokens in memory already; 4k is 4096.")
    ] = "0",
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, metavar="N", help="Measure N times.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Measure prompt and generation speed, as llama-bench does: pp512 and tg128, at any depth.

    Tokens go the whole way of an answer: drawn, turned into text and sent from the engine's process. What that costs
    beside llama.cpp's computation is shown as the engine's own time a token.

    Example: `nemotron bench NVIDIA-Nemotron-3-Nano-30B-A3B-Q4_K_M -p 512 -n 128 -d 0,16k`
    """
    from nemotron_gguf.runner.bench import Measure

    depths = _numbers(depth, "--depth")
    measures = [Measure(n_prompt=n, depth=d) for d in depths for n in _numbers(n_prompt, "--n-prompt") if n]
    measures += [Measure(n_gen=n, depth=d) for d in depths for n in _numbers(n_gen, "--n-gen") if n]
    if not measures:
        raise typer.BadParameter("there is nothing to measure", param_hint="--n-prompt, --n-gen")
    needed = max(measure.n_tokens for measure in measures)
    settings = settings_of(placing) if placing.ctx_size else settings_of(placing, ctx_size=max(needed, SMALLEST))
    path = resolve(file)
    with open_with_bar(path, settings) as model:
        results = _measured(model, measures, repetitions)
        if as_json:
            console.print_json(_described(model, path, results))
        else:
            _show(results)


def _measured(model: ChatModel, measures: Sequence[Measure], repetitions: int) -> list[Result]:
    """The results, with a line that says what is being measured."""
    from nemotron_gguf.runner.bench import run

    with console.stderr().status("warming up …") as status:
        return list(run(model, measures, repetitions, on_step=lambda step: status.update(f"{step} …")))


def _show(results: Sequence[Result]) -> None:
    width = max(len(result.measure.name) for result in results)
    console.say(f"{'test':{width}}  {'tokens/s':>18}  engine's own time a token")
    for result in results:
        speed = f"{result.mean:.2f} ± {result.deviation:.2f}"
        own = f"{result.own_seconds * 1e6:.0f} µs" if result.measure.n_gen else ""
        console.say(f"{result.measure.name:{width}}  {speed:>18}  {own}".rstrip())


def _described(model: ChatModel, path: Path, results: Sequence[Result]) -> dict[str, object]:
    """The results for `--json`: tokens a second, seconds."""
    return {
        "file": str(path),
        "model": model.name,
        "bytes": model.file.file_size,
        "parameters": sum(tensor.n_elements for tensor in model.file.tensors),
        "setup": model.setup.describe(),
        "results": [
            {
                "test": result.measure.name,
                "n_prompt": result.measure.n_prompt,
                "n_gen": result.measure.n_gen,
                "depth": result.measure.depth,
                "tokens_per_second": result.mean,
                "deviation": result.deviation,
                "repetitions": list(result.speeds),
                "engine_seconds_per_token": result.own_seconds if result.measure.n_gen else None,
            }
            for result in results
        ],
    }


def _numbers(text: str, option: str) -> list[int]:
    """`512,2k` as numbers of tokens."""
    found = [re.fullmatch(r"(\d{1,9})(k?)", part.strip(), re.ASCII | re.IGNORECASE) for part in text.split(",")]
    if not all(found):
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 512 or 0,4k", param_hint=option)
    return [int(match[1]) * (1024 if match[2] else 1) for match in found if match]
