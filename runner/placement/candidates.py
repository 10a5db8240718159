"""Arrangements of a model on devices, the fastest first; whether one fits is asked elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from nemotron_gguf.models.needs import INPUT, Needs
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.errors import WishError
from nemotron_gguf.runner.placement.placement import ALL_LAYERS, Placement, TensorOverride
from nemotron_gguf.runner.placement.shares import HOST, NO_PIPELINE, margin_of, storage_of, use_of
from nemotron_gguf.runner.placement.wishes import cache_type, flash_attention, overrides
from nemotron_gguf.runner.settings import Settings, default_threads

Computed = Callable[[Placement], Mapping[str, int]]
_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"  # LLM_FFN_EXPS_REGEX (common/common.h)


def common(needs: Needs, settings: Settings, ctx_size: int) -> Placement:
    """What every arrangement has: sizes, types of the cache, threads, workers."""
    return Placement(
        ctx_size=ctx_size,
        threads=settings.threads or default_threads(),
        rpc=settings.rpc,
        cache_type_k=cache_type("--cache-type-k", settings.cache_type_k).name,
        cache_type_v=cache_type("--cache-type-v", settings.cache_type_v).name,
        flash_attention=flash_attention(settings.flash_attn),
        parallel=settings.parallel or 1,
        kv_unified=True,  # any conversation may take all that is free, and several may share a beginning
        lookup=settings.lookup or 0 if needs.takes_back else 0,
    )


def candidates(
    needs: Needs,
    settings: Settings,
    base: Placement,
    offload: Sequence[Device],
    devices: Sequence[Device],
    computed: Computed,
) -> Iterator[Placement]:
    """All arrangements that what was pinned leaves open; at least one. `computed` tells compute buffers."""
    asked = own_overrides(settings, devices)
    pinned = settings.n_gpu_layers
    alone = replace(base, overrides=asked, rpc=base.rpc if asked else ())  # which needs no worker
    if not offload or pinned == 0:
        yield alone
        return
    n_layers = ALL_LAYERS if pinned is None else pinned
    if settings.n_cpu_moe is not None:
        asked = (*asked, *experts_on_host(settings.n_cpu_moe))
    for chosen in _device_sets(settings, offload):
        whole = replace(base, n_gpu_layers=n_layers, overrides=asked)
        yield spread(needs, whole, chosen, computed)
        if len(chosen) > 1 and not asked:
            yield spread(needs, replace(whole, overrides=(TensorOverride(NO_PIPELINE, HOST),)), chosen, computed)
    is_open = settings.n_cpu_moe is None and not settings.override_tensor and bool(needs.moe_layers)
    if is_open:
        for layer in needs.moe_layers:
            kept = replace(base, n_gpu_layers=n_layers, overrides=experts_on_host(layer + 1))
            yield spread(needs, kept, offload, computed)
    all_experts = experts_on_host(needs.moe_layers[-1] + 1) if is_open else asked
    if pinned is None:
        for count in range(needs.n_layers, 0, -1):
            for kept_here in dict.fromkeys((asked, all_experts)):
                yield spread(needs, replace(base, n_gpu_layers=count, overrides=kept_here), offload, computed)
        yield alone


def own_overrides(settings: Settings, devices: Sequence[Device]) -> tuple[TensorOverride, ...]:
    """What a person wished with --override-tensor. Raises WishError for a buffer that no device has."""
    found = []
    for one in overrides(settings.override_tensor):
        names = {name.lower(): device.buffer_type for device in devices for name in (device.name, device.buffer_type)}
        if one.buffer.lower() not in names:
            there = ", ".join(device.name for device in devices)
            raise WishError(f"--override-tensor {one.pattern}={one.buffer}: no device has that buffer; {there} do")
        found.append(TensorOverride(one.pattern, names[one.buffer.lower()]))
    return tuple(found)


def experts_on_host(n_blocks: int) -> tuple[TensorOverride, ...]:
    """The experts of the first blocks stay on the processor: llama.cpp's --n-cpu-moe, in one expression."""
    if n_blocks == 0:
        return ()
    return (TensorOverride(rf"^blk\.({'|'.join(map(str, range(n_blocks)))}){_EXPERTS}", HOST),)


def moe_on_host(placement: Placement) -> bool:
    """Whether tensors of blocks that are on devices stay on the processor."""
    return any(one.buffer_type == HOST and one.pattern != NO_PIPELINE for one in placement.overrides)


def _device_sets(settings: Settings, offload: Sequence[Device]) -> list[tuple[Device, ...]]:
    """All that were named; of those found, each alone before all together, the one with most memory first."""
    every = tuple(offload)
    if settings.device is not None or settings.rpc or len(every) == 1:
        return [every]
    return [*((one,) for one in sorted(every, key=lambda device: -device.memory_free)), every]


def spread(needs: Needs, placement: Placement, devices: Sequence[Device], computed: Computed) -> Placement:
    """The placement on these devices, blocks dealt out so that all are filled alike."""
    placed = replace(placement, devices=tuple(device.name for device in devices))
    if len(devices) == 1:
        return placed
    n_all = needs.n_layers + 1
    n_gpu = n_all if placement.n_gpu_layers < 0 else min(placement.n_gpu_layers, n_all)
    sizes = _block_sizes(needs, placed, devices[0])[n_all - n_gpu :]
    taken = computed(placed)
    rooms = [
        max(device.memory_free - margin_of(device) - taken.get(device.name, 0), 1) if device.memory_total else 1 << 62
        for device in devices
    ]
    return replace(placed, tensor_split=tuple(map(float, deal(sizes, rooms))))


def _block_sizes(needs: Needs, placement: Placement, device: Device) -> list[int]:
    """Bytes of each block and, at last, of the output, as a device would hold them."""
    use, storage = use_of(placement), storage_of(device)
    away = [re.compile(one.pattern) for one in placement.overrides]
    sizes = [needs.cache(layer, use, storage) + needs.state(layer, use, storage) for layer in range(needs.n_layers)]
    sizes.append(0)
    for tensor in needs.weights:
        if tensor.layer != INPUT and not any(rule.search(tensor.name) for rule in away):
            sizes[tensor.layer] += storage.of(tensor.type, tensor.shape)
        elif tensor.name == "token_embd.weight" and needs.is_tied:
            sizes[-1] += storage.of(tensor.type, tensor.shape)
    return sizes


def deal(sizes: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """How many neighbours of a row each device gets, so that the fullest is as empty as can be."""
    low, high = 0.0, max(sum(sizes) / room for room in rooms)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(_fill(sizes, rooms, middle)) >= len(sizes) else (middle, high)
    counts = _fill(sizes, rooms, high)
    counts[-1] += len(sizes) - sum(counts)
    return counts


def _fill(sizes: Sequence[int], rooms: Sequence[int], level: float) -> list[int]:
    """How many each device takes when it is filled to that part of its room."""
    counts, at = [], 0
    for room in rooms:
        start, left = at, room * level
        while at < len(sizes) and sizes[at] <= left:
            left -= sizes[at]
            at += 1
        counts.append(at - start)
    return counts
