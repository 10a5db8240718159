"""How a model is run: what a person asks for, and what follows from it, the file and the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.engine.pace import GAP
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement.wishes import check_wishes
from nemotron_gguf.runner.sampling import RANGES, Sampling, check_ranges

DEFAULT_CONTEXT = 16384  # tokens; never the trained length by itself, whose cache may not fit
LOOKUP = 3  # tokens guessed at a time where the choice is left to us
MAX_THREADS = 512  # GGML_MAX_N_THREADS (ggml/include/ggml.h)
ALL_LAYERS = -1

ContextOverflow: TypeAlias = Literal["stop", "drop-oldest"]
"""What happens to a conversation that no longer fits: it is refused, or loses its oldest turns."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person asks for; None leaves the choice to the file and the machine.

    `ctx_size` and `max_tokens` in tokens; `n_gpu_layers` -1 for all. `n_cpu_moe`: the experts of the first so many
    blocks stay on the processor. `override_tensor` PATTERN=BUFFER; `device` names of ggml's, an empty tuple for the
    processor alone; `rpc` HOST:PORT of workers. `parallel` answers are given at a time; `cache_ram` bytes are for
    copies of conversations' states beside the context; `max_gap` seconds an answer may wait for its next token while
    others' prompts are read, where the machine can do that; `idle_reading`: read ahead while nobody asks; `lookup`: as
    many tokens may be guessed from the text at a time, None: where memory is left for it. Raises RunnerError for a
    value out of range.
    """

    ctx_size: int | None = None
    n_gpu_layers: int | None = None
    n_cpu_moe: int | None = None
    override_tensor: tuple[str, ...] = ()
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attn: str | None = None
    device: tuple[str, ...] | None = None
    rpc: tuple[str, ...] = ()
    parallel: int | None = None
    cache_ram: int | None = None
    max_gap: float = GAP
    idle_reading: bool = True
    lookup: int | None = 0  # off: it pays where an answer copies nearly all (docs/figures.md)
    threads: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_n_sigma: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_last_n: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    context_overflow: ContextOverflow = "stop"

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES | RANGES)
        check_wishes(self)
        if not all(self.stop):
            raise RunnerError("--stop is empty, expected a text that ends an answer")


_RANGES: dict[str, tuple[float, float]] = {
    "ctx_size": (16, 1 << 24),
    "n_gpu_layers": (ALL_LAYERS, 100_000),
    "n_cpu_moe": (0, 100_000),
    "parallel": (1, 256),  # LLAMA_MAX_SEQ (src/llama-cparams.h)
    "cache_ram": (0, 1 << 50),
    "max_gap": (0.001, 60),
    "lookup": (0, 4),  # each costs a copy of the recurrent state a sequence
    "threads": (1, MAX_THREADS),
    "max_tokens": (1, 1 << 30),
}


def choose_sampling(settings: Settings, file: GGUFFile) -> Sampling:
    """How tokens are drawn: the person's word first, then the file's, then llama.cpp's defaults."""
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
    low, high = RANGES[name]
    if not low <= value <= high:
        return None
    return int(value) if name == "top_k" else round(float(value), 6)  # 0.95 as float32 is 0.949999988


def default_threads() -> int:
    """As many threads as there are cores for us; half of the logical ones where there are many (hyperthreads)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable if usable <= 4 else min(usable // 2, MAX_THREADS)
