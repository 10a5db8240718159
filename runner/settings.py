"""How a model is run: what a person asks for, and what follows from it, the file and the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.library import Device

DEFAULT_CONTEXT = 16384  # tokens; never the trained length by itself, whose cache may not fit
MAX_THREADS = 512  # GGML_MAX_N_THREADS (ggml/include/ggml.h)
ALL_LAYERS = -1


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person asks for; None leaves the choice to the file and the machine.

    `ctx_size` and `max_tokens` in tokens; `n_gpu_layers` -1 for all. Raises RunnerError for a value out of range.
    """

    ctx_size: int | None = None
    n_gpu_layers: int | None = None
    threads: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                option = "--" + name.replace("_", "-")
                raise RunnerError(f"{option} is {value}, expected {low} to {high}")


_RANGES: dict[str, tuple[float, float]] = {
    "ctx_size": (16, 1 << 24),
    "n_gpu_layers": (ALL_LAYERS, 100_000),
    "threads": (1, MAX_THREADS),
    "temperature": (0, 10),
    "top_k": (0, 1 << 30),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "seed": (0, (1 << 32) - 1),
    "max_tokens": (1, 1 << 30),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: llama.cpp's own defaults (common/common.h) where nothing else is said.

    `temperature` 0 takes the likeliest token; `top_k` 0 and `top_p` 1 keep all; `seed` None is another one each time.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What was chosen: a context of `ctx_size` tokens, layers on the GPU (-1 for all), threads, sampling."""

    ctx_size: int
    n_gpu_layers: int
    threads: int
    gpu: str
    sampling: Sampling
    max_tokens: int | None = None

    def describe(self) -> str:
        """One line that says what was chosen."""
        layers = "all layers" if self.n_gpu_layers < 0 else f"{self.n_gpu_layers} layers"
        place = f"{layers} on {self.gpu}" if self.gpu and self.n_gpu_layers else "on the CPU"
        draw = self.sampling
        how = f"temperature {draw.temperature:g}"
        if draw.temperature > 0:
            how += f", top-p {draw.top_p:g}, top-k {draw.top_k}, min-p {draw.min_p:g}"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"context {self.ctx_size} · {place} · {threads} · {how}"


def choose(settings: Settings, file: GGUFFile, devices: Sequence[Device]) -> Setup:
    """Complete what was asked from the file's keys and the devices found."""
    gpu = next((device for device in devices if device.is_gpu), None)
    trained = file.get(f"{file.architecture}.context_length")
    longest = trained if isinstance(trained, int) and trained >= 16 else DEFAULT_CONTEXT
    layers = (ALL_LAYERS if gpu else 0) if settings.n_gpu_layers is None else settings.n_gpu_layers
    return Setup(
        ctx_size=settings.ctx_size or min(longest, DEFAULT_CONTEXT),
        n_gpu_layers=layers if gpu else 0,
        threads=settings.threads or default_threads(),
        gpu=(gpu.description or gpu.name) if gpu else "",
        sampling=_sampling(settings, file),
        max_tokens=settings.max_tokens,
    )


def _sampling(settings: Settings, file: GGUFFile) -> Sampling:
    """The person's word first, then the file's, then the defaults."""
    chosen: dict[str, Any] = {}
    for field in fields(Sampling):
        wanted = getattr(settings, field.name)
        value = wanted if wanted is not None else _from_file(file, field.name)
        if value is not None:
            chosen[field.name] = value
    return Sampling(**chosen)


_KEYS = {  # llama.cpp: src/llama-arch.cpp
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
}


def _from_file(file: GGUFFile, name: str) -> float | int | None:
    """A sampling default of the file, None where it has none or one out of range."""
    value = file.get(_KEYS[name]) if name in _KEYS else None
    if not isinstance(value, int | float):
        return None
    low, high = _RANGES[name]
    if not low <= value <= high:
        return None
    return int(value) if name == "top_k" else round(float(value), 6)  # 0.95 as float32 is 0.949999988


def default_threads() -> int:
    """As many threads as there are cores for us; half of the logical ones where there are many (hyperthreads)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable if usable <= 4 else min(usable // 2, MAX_THREADS)
