"""A file is loaded as its placement says: llama.cpp's parameters, the model's handle, the context's handle."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.engine.hardware import handle_of
from nemotron_gguf.runner.engine.library import failure, forget_failures
from nemotron_gguf.runner.engine.workers import add_workers
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.placement.placement import Placement

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # enum llama_flash_attn_type (include/llama.h)
_AUTO, _NONE = -1, 0  # enum llama_load_mode: mmap where the devices take it; into buffers of ggml's own
_LAYERS = 1  # enum llama_split_mode: whole layers to each device
_kept: dict[int, Any] = {}  # what the parameters of a model in memory point to


def load_model(
    llama: Any, path: str | Path, placement: Placement, on_progress: Callable[[float], bool | None] | None = None
) -> int:
    """The handle of a model, to be freed with `free_model`.

    `on_progress` is told the share that is loaded, 0 to 1; its False ends the loading, and so does what it raises.
    Raises RunnerError for a file that cannot be loaded so, a device or a worker that is not there.
    """
    params = model_params(llama, placement)
    raised: list[BaseException] = []

    def go_on(share: float, _data: object) -> bool:
        try:
            return raised == [] and (on_progress is None or on_progress(share) is not False)
        except BaseException as error:  # ctypes would print and drop it
            raised.append(error)
            return False

    params.progress_callback = llama.llama_progress_callback(go_on)
    handle = start_load(llama, path, params)
    if raised:
        raise raised[0]
    if not handle:
        reason = failure("it gave no reason, or the loading was ended")
        advice = "; a smaller file needs less memory, and less --ctx-size" if "allocate" in reason else ""
        raise RunnerError(f"llama.cpp cannot load {path}: {reason}{advice}")
    if llama.llama_model_has_encoder(handle) or not llama.llama_model_has_decoder(handle):
        free_model(llama, handle)
        raise RunnerError(f"{path} is no model that writes text by itself (it has an encoder); choose another")
    return handle


def start_load(llama: Any, path: str | Path, params: Any) -> int:
    """The model's handle, 0 where libllama gives none."""
    forget_failures()
    handle = llama.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), params) or 0
    if handle:
        _kept[handle] = params
    return int(handle)


def free_model(llama: Any, handle: int) -> None:
    """Free a model, and what its parameters pointed to."""
    llama.llama_model_free(handle)
    _kept.pop(handle, None)


def model_params(llama: Any, placement: Placement) -> Any:
    """`llama_model_params` of a placement; what they point to lives as long as they do.

    Raises RunnerError for a device, a buffer type or a worker that is not there.
    """
    add_workers(llama, placement.rpc)
    ggml = Ggml(llama)
    params = llama.llama_model_default_params()
    devices = _devices(ggml, placement.devices)
    overrides = _overrides(ggml, placement)
    split = (ctypes.c_float * max(int(llama.llama_max_devices()), len(devices)))(*placement.tensor_split)
    params.devices = ctypes.cast(devices, ctypes.c_void_p)
    params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p) if placement.overrides else None
    params.tensor_split = split if placement.tensor_split else None
    params.n_gpu_layers = placement.n_gpu_layers if placement.devices else 0
    params.split_mode = _LAYERS
    params.load_mode = _AUTO if placement.use_mmap else _NONE
    params.kept = (devices, overrides, split)
    return params


def context_params(llama: Any, placement: Placement) -> Any:
    """`llama_context_params` of a placement."""
    params = llama.llama_context_default_params()
    params.n_ctx = placement.ctx_size
    params.n_batch, params.n_ubatch = placement.batch, placement.ubatch
    params.n_seq_max, params.n_rs_seq = placement.parallel, placement.lookup
    params.n_outputs_max = max(placement.parallel, 1 + placement.lookup)  # a token of each, or guesses of one
    params.n_threads = params.n_threads_batch = placement.threads
    params.type_k, params.type_v = GGMLType[placement.cache_type_k], GGMLType[placement.cache_type_v]
    params.flash_attn_type = _FLASH_ATTENTION[placement.flash_attention]
    params.kv_unified, params.swa_full = placement.kv_unified, placement.swa_full
    params.no_perf = True
    return params


def new_context(llama: Any, model: int, placement: Placement, params: Any = None) -> int:
    """The handle of a context, to be freed with `llama_free`; `params` in place of the placement's own.

    Raises RunnerError where it does not fit.
    """
    forget_failures()
    handle = llama.llama_init_from_model(model, params or context_params(llama, placement))
    if not handle:
        why = failure("llama.cpp gave no reason")
        raise RunnerError(f"no context of {placement.ctx_size} tokens could be made ({why}); try a smaller --ctx-size")
    return int(handle)


class _Override(ctypes.Structure):
    """`llama_model_tensor_buft_override` (include/llama.h)."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _devices(ggml: Ggml, names: tuple[str, ...]) -> Any:
    """A list of devices that ends with none; an empty one is the processor alone."""
    found = [handle_of(ggml, name) for name in names]
    if 0 in found:
        there = ", ".join(ggml.text("ggml_backend_dev_name", handle) for handle in ggml.devices())
        raise RunnerError(f"there is no device {names[found.index(0)]!r}; there are {there}")
    return (ctypes.c_void_p * (len(found) + 1))(*found, None)


def _overrides(ggml: Ggml, placement: Placement) -> Any:
    """The overrides, ended by an empty one."""
    buffers: dict[str, int] = {}
    for device in ggml.devices():
        found = ggml.pointer("ggml_backend_dev_buffer_type", device)
        buffers.setdefault(ggml.text("ggml_backend_buft_name", found), found)
    listed = (_Override * (len(placement.overrides) + 1))()
    for entry, override in zip(listed, placement.overrides, strict=False):
        if override.buffer_type not in buffers:
            names = ", ".join(buffers)
            raise RunnerError(f"there is no buffer type {override.buffer_type!r} for tensors; there are {names}")
        entry.pattern, entry.buffer_type = override.pattern.encode(), buffers[override.buffer_type]
    return listed
