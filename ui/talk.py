"""The verbs that talk: chat in the terminal, the page in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.shelf import FILE_HELP, resolve

if TYPE_CHECKING:
    from nemotron_gguf.runner import Settings

File = Annotated[str, typer.Argument(metavar="MODEL", help=FILE_HELP)]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="The system message, which sets the tone.")]
Thinking = Annotated[bool, typer.Option("--thinking/--no-thinking", help="Think before answering, or answer at once.")]
ContextSize = Annotated[
    int | None, typer.Option(min=16, metavar="N", help="Context in tokens; the file's, 16384 at most, if not given.")
]
GpuLayers = Annotated[
    str | None, typer.Option(metavar="N|all", help="Layers on the GPU; all where there is a GPU, if not given.")
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads on the processor.")]
Temperature = Annotated[
    float | None, typer.Option(min=0, metavar="X", help="0 takes the likeliest token; the file's word if not given.")
]
TopP = Annotated[float | None, typer.Option(min=0, max=1, metavar="X", help="Draw from the likeliest tokens up to X.")]
Seed = Annotated[int | None, typer.Option(min=0, metavar="N", help="The same seed gives the same answer.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, metavar="N", help="End an answer after N tokens.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (chat, ui):
        app.command()(verb)


def chat(
    file: File,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="Ask this, print the answer, leave.")] = None,
    system: System = None,
    thinking: Thinking = True,
    ctx_size: ContextSize = None,
    n_gpu_layers: GpuLayers = None,
    threads: Threads = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    max_tokens: MaxTokens = None,
) -> None:
    """Talk with a model in the terminal; its reasoning is shown apart from its answer.

    Ctrl-C stops an answer, Ctrl-D leaves, /help lists what else can be typed. With `--message`, or text from a pipe, it
    answers once: the answer goes to stdout, everything else to stderr.

    Example: `nemotron chat NVIDIA-Nemotron-3-Nano-30B-A3B-Q4_K_M --message "Why is the sky blue?"`
    """
    from nemotron_gguf.ui import terminal

    if message is not None and not message.strip():
        raise typer.BadParameter("there is nothing in it to answer", param_hint="--message")
    settings = _settings(ctx_size, n_gpu_layers, threads, temperature, top_p, seed, max_tokens)
    verbose = console.settings.debug
    terminal.chat(resolve(file), settings, message=message, system=system, thinking=thinking, verbose=verbose)


def ui(
    file: File,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="N", help="Port on 127.0.0.1; the first free from 7860 on.")
    ] = None,
    system: System = None,
    thinking: Thinking = True,
    ctx_size: ContextSize = None,
    n_gpu_layers: GpuLayers = None,
    threads: Threads = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    max_tokens: MaxTokens = None,
) -> None:
    """Open a chat page on this machine (127.0.0.1) for the browser, in English or Chinese.

    Example: `nemotron ui unsloth/Nemotron-3-Nano-30B-A3B-GGUF:Q4_K_M`
    """
    from nemotron_gguf.ui import page

    settings = _settings(ctx_size, n_gpu_layers, threads, temperature, top_p, seed, max_tokens)
    page.serve(resolve(file), settings, port=port, system=system, thinking=thinking, verbose=console.settings.debug)


def _settings(
    ctx_size: int | None,
    n_gpu_layers: str | None,
    threads: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    max_tokens: int | None,
) -> Settings:
    from nemotron_gguf.runner import RunnerError, Settings

    layers = None if n_gpu_layers is None else _layers(n_gpu_layers)
    try:
        return Settings(
            ctx_size=ctx_size,
            n_gpu_layers=layers,
            threads=threads,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_tokens=max_tokens,
        )
    except RunnerError as error:
        raise typer.BadParameter(str(error)) from error


def _layers(text: str) -> int:
    """`all` or a number, as libllama counts: -1 for all."""
    if text.lower() == "all":
        return -1
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a number nor all", param_hint="--n-gpu-layers")
    return int(text)
