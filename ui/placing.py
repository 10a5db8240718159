"""Where a model goes, on the command line: the options of every verb that runs one, and the plan of --dry-run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemotron_gguf.ui import console
from nemotron_gguf.ui.memory import parse_context, parse_memory
from nemotron_gguf.ui.options import option

if TYPE_CHECKING:
    from nemotron_gguf.runner import Settings
    from nemotron_gguf.ui.drawing import Drawing

PANEL = "Where the model goes"
_option = partial(option, PANEL)


@dataclass(frozen=True)
class Placing:
    """What is not given is decided by what fits the devices that are there."""

    ctx_size: Annotated[str | None, _option("Context in tokens, such as 256k; the file's, 16k at most.", "N")] = None
    n_gpu_layers: Annotated[str | None, _option("Layers on the GPU; as many as fit, if not given.", "N|all")] = None
    n_cpu_moe: Annotated[
        int | None,
        _option("Keep the experts of the first N blocks on the processor, as llama.cpp counts.", "N", min=0),
    ] = None
    override_tensor: Annotated[
        list[str] | None,
        _option("Tensors whose name matches go there, CPU for one; may be repeated.", "REGEX=BUFFER"),
    ] = None
    cache_type_k: Annotated[
        str | None, _option("Type of the keys in the cache, such as Q8_0; F16 if not given.", "TYPE")
    ] = None
    cache_type_v: Annotated[
        str | None, _option("Type of the values in the cache; below F16 it needs flash attention.", "TYPE")
    ] = None
    flash_attn: Annotated[str | None, _option("Flash attention; auto: where it can be.", "auto|on|off")] = None
    device: Annotated[
        str | None, _option("Only these devices, as `nemotron doctor` names them; none: the processor.", "NAME,…")
    ] = None
    rpc: Annotated[str | None, _option("Workers (llama.cpp's rpc-server) to use as well.", "HOST:PORT,…")] = None
    parallel: Annotated[
        int | None, _option("Answers at a time, which share the context; more of them wait.", "N", min=1, max=256)
    ] = None
    cache_ram: Annotated[
        str | None,
        _option("Memory to keep states of conversations in; 2GiB, or a quarter of what is left.", "SIZE"),
    ] = None
    max_gap: Annotated[
        int,
        _option("Milliseconds an answer may wait for its next token while others' prompts are read.", "MS",
                min=1, max=60_000),
    ] = 100  # fmt: skip
    idle_reading: Annotated[
        bool,
        typer.Option(
            "--idle-reading/--no-idle-reading",
            help="Read what the next prompt will begin with while nobody asks.",
            rich_help_panel=PANEL,
        ),
    ] = True
    lookup: Annotated[
        str,
        _option("Guess up to N tokens (4 at most) from the text; auto: where memory is left; off.", "N|off|auto"),
    ] = "off"
    threads: Annotated[
        int | None, _option("Threads on the processor; fewer where others compute on it.", "N", min=1)
    ] = None


def settings_of(placing: Placing, drawing: Drawing | None = None, **more: Any) -> Settings:
    """The options as settings of a run. Raises BadParameter for a word or a number that is none of them."""
    from nemotron_gguf.runner import RunnerError, Settings

    layers, names = placing.n_gpu_layers, placing.device
    wishes: dict[str, Any] = {
        "ctx_size": None if placing.ctx_size is None else parse_context(placing.ctx_size, "--ctx-size"),
        "n_gpu_layers": None if layers is None else _layers(layers),
        "n_cpu_moe": placing.n_cpu_moe,
        "override_tensor": tuple(placing.override_tensor or ()),
        "cache_type_k": placing.cache_type_k,
        "cache_type_v": placing.cache_type_v,
        "flash_attn": placing.flash_attn,
        "device": None if names is None else tuple(_listed(names)) if names.lower() != "none" else (),
        "rpc": tuple(_listed(placing.rpc or "")),
        "parallel": placing.parallel,
        "cache_ram": None if placing.cache_ram is None else _bytes(placing.cache_ram),
        "max_gap": placing.max_gap / 1000,
        "idle_reading": placing.idle_reading,
        "lookup": _lookup(placing.lookup),
        "threads": placing.threads,
    }
    try:
        return Settings(**(wishes | (drawing.wishes() if drawing else {}) | more))
    except RunnerError as error:
        raise typer.BadParameter(str(error)) from error


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _bytes(text: str) -> int:
    """A size of memory, or 0 for none at all."""
    return 0 if text.strip() == "0" else parse_memory(text, "--cache-ram")


def _layers(text: str) -> int:
    """`all` or a number, as libllama counts: -1 for all."""
    if text.lower() == "all":
        return -1
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(f"{text!r} is neither a number nor all", param_hint="--n-gpu-layers")
    return int(text)


def _lookup(text: str) -> int | None:
    """Tokens guessed at a time; None lets it be decided."""
    if text.lower() in ("auto", "off"):
        return None if text.lower() == "auto" else 0
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(f"{text!r} is neither a number nor off nor auto", param_hint="--lookup")
    return int(text)


def show_plan(path: Path, settings: Settings, as_json: bool) -> None:
    """Print where a model would go, per device, with what is left. Raises RunnerError where it does not fit."""
    from nemotron_gguf.runner import Client, inspect_model, set_up

    file = inspect_model(path)
    with Client(verbose=console.settings.debug) as engine:
        found = set_up(file, settings, engine, measure=True).plan
    if as_json:
        console.print_json(found.as_dict())
        return
    console.say(found.describe())
    table(found.rows())
    for note in found.notes:
        console.note(note)


def table(rows: list[tuple[str, ...]]) -> None:
    """Columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        console.say("  ".join((first.ljust(widths[0]), *cells)).rstrip())
