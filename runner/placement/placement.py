"""Where a model goes, as a frozen value: what the engine's process is told when it loads a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

FlashAttention: TypeAlias = Literal["auto", "on", "off"]
ALL_LAYERS = -1
UBATCH = 512  # tokens computed at a time, llama.cpp's default


@dataclass(frozen=True, slots=True)
class TensorOverride:
    """Tensors whose name matches `pattern` (an ECMAScript regular expression) go to a buffer type, such as "CPU"."""

    pattern: str
    buffer_type: str


@dataclass(frozen=True, slots=True)
class Placement:
    """How a file is loaded: sizes in tokens, devices by ggml's names.

    `devices` empty means the processor alone. `n_gpu_layers` counts as llama.cpp does (-1 all; the output counts as a
    layer). `tensor_split` has a share for each device. `rpc` are HOST:PORT of workers, whose devices ggml names
    "RPC0", "RPC1", … Cache types are names of ggml types. `ctx_size` is shared by `parallel` sequences: each has its
    part of it, or any of them may take all with `kv_unified`. With `swa_full` a sliding window keeps what it slid over.
    `lookup` tokens behind an answer may be guessed, computed and taken back at a time.
    """

    ctx_size: int
    threads: int
    n_gpu_layers: int = 0
    devices: tuple[str, ...] = ()
    rpc: tuple[str, ...] = ()
    tensor_split: tuple[float, ...] = ()
    overrides: tuple[TensorOverride, ...] = ()
    cache_type_k: str = "F16"
    cache_type_v: str = "F16"
    flash_attention: FlashAttention = "auto"
    use_mmap: bool = True
    parallel: int = 1
    batch: int = UBATCH
    ubatch: int = UBATCH
    kv_unified: bool = False
    swa_full: bool = False
    lookup: int = 0
