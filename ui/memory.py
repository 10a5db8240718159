"""What `nemotron inspect --memory` says: whether a model fits into so much memory, from its header alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.models.gguf_reader import GGUFFile
    from nemotron_gguf.runner.placement.plan import Planner

_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST = 1 << 24  # tokens: the longest context that is looked at where the file names none


def parse_memory(text: str, option: str = "--memory") -> int:
    """Bytes of 16GiB or 16G, binary as memory is sold, or of 16GB, decimal. Raises BadParameter for anything else."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(i?b)?", text.strip().lower(), re.ASCII)
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no size of memory, expected one such as 16GiB", param_hint=option)
    is_decimal = match[3] == "b" and match[2]
    factor = 1000 ** (1 + "kmgt".index(match[2])) if is_decimal else _FACTORS[match[2]]
    return int(match[1]) * factor if match[1].isdecimal() else int(float(match[1]) * factor)


def parse_context(text: str, option: str = "--context") -> int:
    """Tokens of 262144 or 256k. Raises BadParameter for anything else."""
    match = re.fullmatch(r"(\d{1,9})([km]?)", text.strip().lower(), re.ASCII)
    size = int(match[1]) * _FACTORS[match[2]] if match else 0
    if not 16 <= size <= _MOST:
        raise typer.BadParameter(
            f"{text!r} is no length of a context, expected 16 to {_MOST} tokens such as 16384 or 256k",
            param_hint=option,
        )
    return size


def show_needs(
    file: GGUFFile, memory: str | None, context: str | None, parallel: int, cache_type: str | None, *, as_json: bool
) -> None:
    """Print what the model needs part by part, whether that fits on a card of `memory`, and what would."""
    size = None if context is None else parse_context(context)
    room = None if memory is None else parse_memory(memory)
    described = describe_needs(file, room, size, parallel, cache_type)
    if as_json:
        console.print_json(described)
    else:
        _print(described)


def describe_needs(
    file: GGUFFile, memory: int | None, wished: int | None, parallel: int = 1, cache_type: str | None = None
) -> dict[str, object]:
    """For programs: bytes of each part on one card with all layers; with a `memory` in bytes, what fits there.

    `wished` tokens of context; what `chat` would take if none. `parallel` sequences, `cache_type` of keys and values.
    Raises RunnerError for a type that no cache can have.
    """
    from nemotron_gguf.models.ggml import GGMLType
    from nemotron_gguf.models.needs import Use, needs_of
    from nemotron_gguf.runner.engine.library import Device, DeviceKind
    from nemotron_gguf.runner.placement.candidates import common
    from nemotron_gguf.runner.placement.plan import Planner
    from nemotron_gguf.runner.settings import DEFAULT_CONTEXT, Settings

    needs, room = needs_of(file), memory or 0
    ctx_size = wished or min(needs.trained_context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    card = Device("GPU", "a card", DeviceKind.GPU, room, room, "GPU", alignment=128, row_padding=512)
    host = Device("CPU", "the processor", DeviceKind.CPU, 0, 0, "CPU")
    whole = Settings(
        ctx_size=ctx_size,
        n_gpu_layers=-1,
        n_cpu_moe=0,
        device=("GPU",),
        parallel=parallel,
        cache_type_k=cache_type,
        cache_type_v=cache_type,
    )
    planner = Planner(needs, whole, (host, card))
    placement = replace(common(needs, whole, ctx_size), n_gpu_layers=-1, devices=("GPU",))
    kind = GGMLType[placement.cache_type_k]
    beside, share = planner.shares(placement)
    found: dict[str, object] = {
        "context": ctx_size,
        **{part: getattr(share, part) for part in ("weights", "cache", "state", "compute", "margin", "total")},
        "host": beside.total,
        "cache_per_token": needs.token_bytes(Use(ctx_size, type_k=kind, type_v=kind)),
        "cache_type": kind.name,
        "parallel": parallel,
        "is_exact": needs.is_exact,
    }
    if memory is None:
        return found
    longest = planner.longest_context(needs.trained_context or _MOST)
    found |= {"memory": memory, "left": share.left, "fits": share.fits, "largest_context": longest}
    found["trained_context"] = needs.trained_context
    if not share.fits:
        found["instead"] = _instead(planner, ctx_size)
    return found


def _instead(planner: Planner, ctx_size: int) -> dict[str, int] | None:
    """How the model goes there with part of it on the processor; None where it does not."""
    from nemotron_gguf.runner.placement.plan import Planner
    from nemotron_gguf.runner.placement.words import moe_on_host

    eased = replace(planner.settings, n_gpu_layers=None, n_cpu_moe=None)
    plan = Planner(planner.needs, eased, planner.devices).first(ctx_size)
    if plan is None or not plan.placement.devices:
        return None
    layers, moe = plan.placement.n_gpu_layers, moe_on_host(plan.placement, planner.needs)
    blocks = planner.needs.moe_layers[moe - 1] + 1 if moe and layers < 0 else planner.needs.n_layers if moe else 0
    return {"n_gpu_layers": layers, "n_cpu_moe": blocks, "moe_layers_on_cpu": moe, "host": plan.devices[0].total}


def _sequences(count: int) -> str:
    return "a sequence" if count == 1 else f"{count} sequences"


def _print(found: dict[str, object]) -> None:
    from nemotron_gguf.runner.placement.words import amount

    def size(key: str) -> str:
        return amount(int(str(found[key])))

    console.say(f"With {found['context']} tokens of context and all layers on one card")
    for part, what in (
        ("weights", ""),
        ("cache", f"{float(str(found['cache_per_token'])) / 1024:g} KiB a token, {found['cache_type']}"),
        ("state", _sequences(int(str(found["parallel"]))) if found["state"] else ""),
        ("compute", "estimated"),
        ("total", ""),
    ):
        console.say(f"  {part:8}  {size(part):>10}  {what}".rstrip())
    console.say(f"  beside    {size('host'):>10}  in the machine's memory (the embedding, inputs)")
    if not found["is_exact"]:
        console.note("how this architecture keeps its context is not known here: cache and state are an estimate")
    if "memory" not in found:
        return
    answer = (
        f"fits, {size('left')} left" if found["fits"] else f"does not fit, {amount(-int(str(found['left'])))} missing"
    )
    console.say(f"On {size('memory')}: {answer} ({size('margin')} taken off for the driver)")
    longest = found["largest_context"]
    all_of_it = ", all that the model was trained with" if longest and longest == found["trained_context"] else ""
    shown = f"The largest context that fits there: {longest} tokens{all_of_it}"
    console.say(shown if longest else "No context fits there")
    if "instead" in found:
        console.say(_other_way(found["instead"]))


def _other_way(instead: object) -> str:
    from nemotron_gguf.runner.placement.words import amount

    if not isinstance(instead, dict):
        return "Not even one layer fits there with that context"
    way = [] if instead["n_gpu_layers"] < 0 else [f"--n-gpu-layers {instead['n_gpu_layers']}"]
    way += [f"--n-cpu-moe {instead['n_cpu_moe']}"] if instead["n_cpu_moe"] else []
    return f"With {' '.join(way)} it fits, and {amount(instead['host'])} go to the machine's memory"
