"""A plan in words: one line, a table, notes, a refusal, JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict

from nemotron_gguf.models.needs import Needs
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.placement.shares import HOST, NO_PIPELINE, Share, layer_devices
from nemotron_gguf.runner.settings import Settings

PARTS = ("weights", "cache", "state", "compute")
_MIB = 1 << 20


def amount(nbytes: int) -> str:
    """Bytes in the units in which memory is sold and llama.cpp reports."""
    return f"{nbytes / (1 << 30):.2f} GiB" if abs(nbytes) >= 1 << 30 else f"{nbytes / _MIB:.1f} MiB"


def name_of(device: Device) -> str:
    """A device's name and what it is."""
    return device.name if device.name == device.description else f"{device.name} ({device.description})"


def describe(placement: Placement, shares: Sequence[Share], needs: Needs) -> str:
    """One line that says what was chosen."""
    said = [f"context {placement.ctx_size}", placed(placement)]
    on_host = moe_on_host(placement, needs)
    if on_host:
        said.append(f"experts of {on_host} of {len(needs.moe_layers)} MoE layers on the CPU")
    if (placement.cache_type_k, placement.cache_type_v) != ("F16", "F16"):
        said.append(f"cache {placement.cache_type_k}/{placement.cache_type_v}")
    known = [share for share in shares[1:] or shares if share.is_known]
    said += [f"{amount(max(share.left, 0))} left on {share.device.name}" for share in known]
    return " · ".join([*said, f"{placement.threads} thread{'s' if placement.threads > 1 else ''}"])


def placed(placement: Placement) -> str:
    """Which layers are where."""
    if not placement.devices or not placement.n_gpu_layers:
        return "on the CPU"
    layers = "all layers" if placement.n_gpu_layers < 0 else f"{placement.n_gpu_layers} layers"
    return f"{layers} on {', '.join(placement.devices)}"


def moe_on_host(placement: Placement, needs: Needs) -> int:
    """MoE layers that are on a device all but their experts."""
    rules = [re.compile(one.pattern) for one in placement.overrides if one.buffer_type == HOST]
    homes = layer_devices(needs.n_layers, placement)
    found = {
        tensor.layer
        for tensor in needs.weights
        if tensor.is_expert and homes[tensor.layer] != HOST and any(rule.search(tensor.name) for rule in rules)
    }
    return len(found)


def rows(shares: Sequence[Share]) -> list[tuple[str, ...]]:
    """A table, its head first."""
    found: list[tuple[str, ...]] = [("device", *PARTS, "together", "free before", "left")]
    for share in shares:
        told = (amount(share.device.memory_free), amount(share.left)) if share.is_known else ("not told", "not told")
        parts = (amount(getattr(share, part)) for part in PARTS)
        found.append((name_of(share.device), *parts, amount(share.total), *told))
    return found


def notes(
    placement: Placement, shares: Sequence[Share], needs: Needs, settings: Settings, offload: Sequence[Device]
) -> tuple[str, ...]:
    """What a person may want to know besides."""
    found = []
    if not needs.is_exact:
        found.append(f"how {needs.architecture} keeps its context is not known here: cache and state are an estimate")
    if settings.n_cpu_moe:
        blocks, layers = min(settings.n_cpu_moe, needs.n_layers), moe_on_host(placement, needs)
        found.append(f"--n-cpu-moe {settings.n_cpu_moe} counts blocks: of the first {blocks}, {layers} have experts")
    if settings.n_gpu_layers not in (None, 0) and not offload:
        found.append("--n-gpu-layers has no effect: llama.cpp finds no GPU here")
    if settings.lookup and not needs.takes_back:
        found.append(f"--lookup has no effect: llama.cpp cannot take tokens of a {needs.architecture} back")
    if settings.rpc and not any(share.device.endpoint for share in shares):
        found.append(f"no layer goes to the workers at {', '.join(settings.rpc)}")
    if needs.trained_context and placement.ctx_size > needs.trained_context:
        found.append(f"the model was trained with a context of {needs.trained_context} tokens, fewer than asked for")
    host = shares[0]
    if host.is_known and host.mapped and host.total > host.device.memory_free:
        found.append(
            f"the CPU needs {amount(host.total)} and has {amount(host.device.memory_free)}: parts of the file will be"
            " read from the disk again and again, which is slow"
        )
    found += [f"{name_of(share.device)} does not tell its memory" for share in shares if not share.is_known]
    return tuple(found)


def refusal(placement: Placement, shares: Sequence[Share], instead: Sequence[str]) -> str:
    """Which devices are too small, by what, and what would fit."""
    short = [share for share in shares if not share.fits]
    said = []
    for share in short:
        parts = ", ".join(f"{part} {amount(size)}" for part in PARTS if (size := getattr(share, part)))
        held = f" and {amount(share.margin)} for its driver" if share.margin else ""
        said.append(
            f"{name_of(share.device)} would need {amount(share.total - share.mapped)}{held} ({parts}) and has"
            f" {amount(share.device.memory_free)} free, {amount(-share.left)} too little"
        )
    means = f"it would fit with {', or with '.join(instead)}" if instead else "a smaller file is needed"
    what = f"the model does not fit with {placement.ctx_size} tokens of context, {placed(placement)}"
    return f"{what}: {'; '.join(said)}; {means}"


def as_dict(
    placement: Placement, shares: Sequence[Share], needs: Needs, notes: Sequence[str], is_measured: bool
) -> dict[str, object]:
    """For programs; sizes in bytes."""
    return {
        "placement": {
            **asdict(placement),
            "overrides": [asdict(one) for one in placement.overrides if one.pattern != NO_PIPELINE],
        },
        "devices": [
            {
                "name": share.device.name,
                "description": share.device.description,
                **{part: getattr(share, part) for part in (*PARTS, "mapped", "margin", "total")},
                "free": share.device.memory_free if share.is_known else None,
                "left": share.left if share.is_known else None,
            }
            for share in shares
        ],
        "moe_layers": len(needs.moe_layers),
        "moe_layers_on_cpu": moe_on_host(placement, needs),
        "is_exact": needs.is_exact,
        "is_measured": is_measured,
        "notes": list(notes),
    }
