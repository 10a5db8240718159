"""What a person may say about where a model goes: the words, checked, in the form that a plan uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.errors import RunnerError, WishError
from nemotron_gguf.runner.placement.placement import FlashAttention

if TYPE_CHECKING:
    from nemotron_gguf.runner.engine.library import Device
    from nemotron_gguf.runner.settings import Settings

CACHE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1")  # common/arg.cpp
FLASH_ATTENTION = ("auto", "on", "off")
_WORKER = re.compile(r"[^\s:,/]+:\d{1,5}")


@dataclass(frozen=True, slots=True)
class Override:
    """Tensors whose name matches go to a buffer of that name, as a person wrote it."""

    pattern: str
    buffer: str


def check_wishes(settings: Settings) -> None:
    """Raises RunnerError, in one line, for words that no machine could follow."""
    cache_type("--cache-type-k", settings.cache_type_k)
    values = cache_type("--cache-type-v", settings.cache_type_v)
    if flash_attention(settings.flash_attn) == "off" and values.is_quantized:
        raise RunnerError(
            f"--cache-type-v {values.name} needs flash attention: leave --flash-attn off away, or use F16 values"
        )
    for worker in settings.rpc:
        if not _WORKER.fullmatch(worker) or not 0 < int(worker.rpartition(":")[2]) < 65536:
            raise RunnerError(f"--rpc: {worker!r} is no worker's address, expected HOST:PORT such as 192.168.1.5:50052")
    for name, items in (("--rpc", settings.rpc), ("--device", settings.device or ())):
        if len(set(items)) < len(items):
            raise RunnerError(f"{name} {','.join(items)} names one twice")
    overrides(settings.override_tensor)


def cache_type(option: str, name: str | None) -> GGMLType:
    """A type of the cache; F16 if none is wished. Raises RunnerError for one that caches cannot have."""
    found = (name or "F16").upper()
    if found not in CACHE_TYPES:
        raise RunnerError(f"{option} is {name}, expected one of {', '.join(CACHE_TYPES)}")
    return GGMLType[found]


def flash_attention(name: str | None) -> FlashAttention:
    """Raises RunnerError for anything but auto, on and off."""
    found = (name or "auto").lower()
    if found not in FLASH_ATTENTION:
        raise RunnerError(f"--flash-attn is {name}, expected one of {', '.join(FLASH_ATTENTION)}")
    return cast(FlashAttention, found)


def overrides(texts: Sequence[str]) -> tuple[Override, ...]:
    """PATTERN=BUFFER, several of them with commas between as llama.cpp takes them. Raises RunnerError for others."""
    found = []
    for text in (part for item in texts for part in item.split(",")):
        pattern, sign, buffer = text.rpartition("=")
        if not (pattern and sign and buffer):
            raise RunnerError(f"--override-tensor {text!r}: expected PATTERN=BUFFER such as 'ffn_.*_exps=CPU'")
        try:
            re.compile(pattern)
        except re.error as error:
            raise RunnerError(f"--override-tensor {text!r}: the pattern is no regular expression ({error})") from error
        found.append(Override(pattern, buffer))
    return tuple(found)


def choose_devices(settings: Settings, devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices that layers may go to, in llama.cpp's order: workers first, integrated ones where nothing else is.

    Raises WishError for a name that is not there.
    """
    able = [device for device in devices if device.is_gpu]
    if settings.device is not None:
        return tuple(_named(name, able) for name in settings.device)
    if settings.n_gpu_layers == 0:
        return ()
    local = [device for device in able if not device.endpoint]
    whole = [device for device in local if device.kind.name == "GPU"] or local
    return tuple([device for device in able if device.endpoint] + whole)


def _named(name: str, able: Sequence[Device]) -> Device:
    for device in able:
        if name.lower() == device.name.lower():
            return device
    there = ", ".join(f"{device.name} ({device.description})" for device in able) or "none but the processor"
    raise WishError(f"--device {name}: there is no such device; there are {there}")
