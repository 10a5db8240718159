"""Which bytes of a model a placement puts on which device: libllama's own rules, followed without it.

Sources: `load_tensors` (src/llama-model.cpp) for layers to devices, src/llama-model-loader.cpp for overrides and for
what is mapped from the file, src/llama-kv-cache.cpp and llama-memory-recurrent.cpp for cache and state.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.needs import INPUT, Needs, Storage, Use, Weights, compute_of, is_everywhere
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.placement.placement import Placement

NO_PIPELINE = "^$"  # an override that matches nothing: with any, libllama keeps one copy of what it computes with
PIPELINE = 4  # copies of what devices hand over: GGML_SCHED_MAX_COPIES (ggml/src/ggml-backend.cpp)
HOST = "CPU"


@dataclass(frozen=True, slots=True)
class Share:
    """What goes to a device, in bytes.

    `weights` are the sizes of its buffers; `mapped` of them are the file's own pages, which the system drops and reads
    again as it likes. `margin` is left to its driver.
    """

    device: Device
    weights: int = 0
    mapped: int = 0
    cache: int = 0
    state: int = 0
    compute: int = 0
    margin: int = 0

    @property
    def total(self) -> int:
        """All of it, without the margin."""
        return self.weights + self.cache + self.state + self.compute

    @property
    def is_known(self) -> bool:
        """Whether the device tells its memory."""
        return self.device.memory_total > 0

    @property
    def left(self) -> int:
        """Bytes free afterwards, margin taken off; below zero, what is missing. What is mapped needs none."""
        return self.device.memory_free - self.margin - (self.total - self.mapped)

    @property
    def fits(self) -> bool:
        """Whether it fits, as far as the device tells."""
        return self.left >= 0 or not self.is_known


def use_of(placement: Placement) -> Use:
    """The placement as `models.needs` wants it."""
    return Use(
        ctx_size=placement.ctx_size,
        parallel=placement.parallel,
        type_k=GGMLType[placement.cache_type_k],
        type_v=GGMLType[placement.cache_type_v],
        batch=placement.batch,
        ubatch=placement.ubatch,
        kv_unified=placement.kv_unified,
        swa_full=placement.swa_full,
        flash=placement.flash_attention != "off",
        lookup=placement.lookup,
    )


def margin_of(device: Device) -> int:
    """Bytes for what is in no buffer: the driver's own, and a GPU's scratch memory while it multiplies."""
    return min(512 << 20, device.memory_total // 25)


def layer_devices(n_layers: int, placement: Placement) -> list[str]:
    """The device of each block and, at last, of the output; floats of 32 bits, as libllama computes them."""
    n_all = n_layers + 1
    n_gpu = 0 if not placement.devices else n_all if placement.n_gpu_layers < 0 else min(placement.n_gpu_layers, n_all)
    if not n_gpu:
        return [HOST] * n_all
    shares = np.array(placement.tensor_split or [1] * len(placement.devices), np.float32)
    ends = np.cumsum(shares, dtype=np.float32) / np.sum(shares, dtype=np.float32)
    at = np.arange(n_gpu, dtype=np.float32) / np.float32(n_gpu)
    chosen = np.searchsorted(ends, at, side="right")
    return [HOST] * (n_all - n_gpu) + [placement.devices[index] for index in chosen]


def shares_of(
    needs: Needs,
    placement: Placement,
    devices: Sequence[Device],
    compute: Mapping[str, int],
    weights: Mapping[str, tuple[int, int]] | None = None,
) -> tuple[Share, ...]:
    """The processor's share first, then the devices' in the placement's order; `compute` in bytes by device's name.

    `weights`: what `weights_of` gave for this placement, if it is known already.
    """
    use, by_name = use_of(placement), {device.name: device for device in devices}
    caches: defaultdict[str, int] = defaultdict(int)
    states: defaultdict[str, int] = defaultdict(int)
    for layer, home in enumerate(layer_devices(needs.n_layers, placement)[: needs.n_layers]):
        caches[home] += needs.cache(layer, use, storage_of(by_name[home]))
        states[home] += needs.state(layer, use, storage_of(by_name[home]))
    held = weights_of(needs, placement, devices) if weights is None else weights
    found = []
    for name in (HOST, *placement.devices):
        computed = compute.get(name, 0) + (needs.logits(use) if name == HOST else 0)
        device = by_name[name]
        found.append(Share(device, *held[name], caches[name], states[name], computed, margin_of(device)))
    return tuple(found)


def weights_of(needs: Needs, placement: Placement, devices: Sequence[Device]) -> dict[str, tuple[int, int]]:
    """Bytes of weights by device's name, and how many of them are mapped from the file."""
    by_name = {device.name: device for device in devices}
    held = _weights(needs, placement, layer_devices(needs.n_layers, placement), by_name)
    return {
        name: _buffers(tensors, by_name[name], placement.use_mmap and name == HOST) for name, tensors in held.items()
    }


def storage_of(device: Device) -> Storage:
    """How a device's buffers hold tensors."""
    return Storage(device.alignment, device.row_padding)


def _weights(
    needs: Needs, placement: Placement, homes: Sequence[str], by_name: Mapping[str, Device]
) -> dict[str, list[Weights]]:
    """The tensors of each device, copies among them."""
    rules = [(re.compile(one.pattern), _owner(one.buffer_type, by_name)) for one in placement.overrides]
    held: dict[str, list[Weights]] = {name: [] for name in by_name}
    for tensor in needs.weights:
        home = HOST if tensor.layer == INPUT else homes[tensor.layer]
        owner = next((where for rule, where in rules if rule.search(tensor.name)), home)
        held[owner].append(tensor)
        if is_everywhere(tensor):
            for other in sorted(set(homes[:-1]) - {owner}):
                held[other].append(tensor)
    if needs.is_tied:
        _tie(needs, held, homes[-1], by_name[HOST])
    return held


def _tie(needs: Needs, held: Mapping[str, list[Weights]], home: str, host: Device) -> None:
    """The embedding once more, as the output, unless it is in that very buffer already."""
    for tensor in needs.weights:
        if tensor.name == "token_embd.weight":
            output = replace(tensor, layer=needs.n_layers)
            if home != HOST or output.is_repacked(dict(host.repacks)):
                held[home].append(output)


def _owner(buffer_type: str, by_name: Mapping[str, Device]) -> str:
    return next(name for name, device in by_name.items() if device.buffer_type == buffer_type)


def _buffers(tensors: Iterable[Weights], device: Device, is_mapped: bool) -> tuple[int, int]:
    """Bytes of a device's buffers of weights, and how many of them are mapped from the file."""
    storage, repacks = storage_of(device), dict(device.repacks)
    if not is_mapped:
        return sum(storage.of(tensor.type, tensor.shape) for tensor in tensors), 0
    ranges: dict[int, tuple[int, int]] = {}
    own = 0
    for tensor in tensors:
        if tensor.is_repacked(repacks):
            own += storage.of(tensor.type, tensor.shape)
            continue
        first, last = ranges.get(tensor.part, (tensor.offset, 0))
        ranges[tensor.part] = min(first, tensor.offset), max(last, tensor.offset + tensor.nbytes)
    mapped = sum(last - first for first, last in ranges.values())
    return own + mapped, mapped


def estimate(needs: Needs, placement: Placement) -> dict[str, int]:
    """Compute buffers by device's name, estimated."""
    use, homes = use_of(placement), layer_devices(needs.n_layers, placement)
    blocks: dict[str, list[int]] = {name: [] for name in (HOST, *placement.devices)}
    for block, name in enumerate(homes[:-1]):
        blocks[name].append(block)
    rules = [re.compile(one.pattern) for one in placement.overrides if one.buffer_type == HOST]
    if blocks[HOST] or any(rule.search(tensor.name) for rule in rules for tensor in needs.weights):
        blocks[HOST] = list(range(needs.n_layers))  # it takes part in what devices have, masks among it
    found = {HOST: compute_of(needs, use, blocks[HOST], on_device=False)}
    found |= {name: compute_of(needs, use, blocks[name] or [0], on_device=True) for name in placement.devices}
    if is_pipelined(needs, placement):
        inputs = (PIPELINE - 1) * compute_of(needs, use, (), on_device=False)
        found = {name: nbytes + inputs for name, nbytes in found.items()}
    return found


def is_pipelined(needs: Needs, placement: Placement) -> bool:
    """Whether libllama keeps several copies of what it computes with, so that devices need not wait for each other."""
    is_whole = placement.n_gpu_layers < 0 or placement.n_gpu_layers > needs.n_layers
    return len(placement.devices) > 1 and is_whole and not placement.overrides
