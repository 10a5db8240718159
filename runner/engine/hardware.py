"""The devices that ggml lists, with what decides how many bytes a tensor takes on each."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Self

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.engine.library import Device, DeviceKind
from nemotron_gguf.runner.engine.workers import add_workers
from nemotron_gguf.runner.placement.memory import available_memory

_TENSORS = 16  # a little context for the tensors that are asked about


def find_devices(llama: Any, rpc: Sequence[str] = ()) -> tuple[Device, ...]:
    """The devices of this machine, and those of the workers at `rpc` (HOST:PORT).

    Raises RunnerError for a worker that does not answer.
    """
    add_workers(llama, rpc)
    ggml = Ggml(llama)
    found = (_describe(ggml, handle) for handle in ggml.devices())
    return tuple(device for device in found if not device.endpoint or device.endpoint in rpc)


def handle_of(ggml: Ggml, name: str) -> int:
    """The device of that name, 0 where ggml has none."""
    return next((handle for handle in ggml.devices() if ggml.text("ggml_backend_dev_name", handle) == name), 0)


def is_remote(ggml: Ggml, handle: int) -> bool:
    """Whether a device belongs to an RPC worker."""
    return ggml.text("ggml_backend_reg_name", ggml.pointer("ggml_backend_dev_backend_reg", handle)) == "RPC"


def _describe(ggml: Ggml, handle: int) -> Device:
    number = ggml.function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)(handle)
    kind = DeviceKind(number) if number in set(DeviceKind) else DeviceKind.META  # a kind that later versions add
    buffers = ggml.pointer("ggml_backend_dev_buffer_type", handle)
    free, total = available_memory() if kind is DeviceKind.CPU else _memory(ggml, handle)
    description = ggml.text("ggml_backend_dev_description", handle)
    return Device(
        name=ggml.text("ggml_backend_dev_name", handle),
        description=description,
        kind=kind,
        memory_free=free,
        memory_total=total,
        buffer_type=ggml.text("ggml_backend_buft_name", buffers),
        endpoint=description if is_remote(ggml, handle) else "",
        alignment=ggml.size("ggml_backend_buft_get_alignment", buffers),
        row_padding=_row_padding(ggml, buffers),
        repacks=_repacks(ggml, handle) if kind is DeviceKind.CPU else (),
    )


def _memory(ggml: Ggml, handle: int) -> tuple[int, int]:
    """Free and total bytes; for the processor ggml calls all memory free, so that one is asked elsewhere."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ask = ggml.function("ggml_backend_dev_memory", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    ask(handle, ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


class _Scratch:
    """A context of ggml for tensors without data; a context manager."""

    def __init__(self, ggml: Ggml) -> None:
        class Params(ctypes.Structure):
            _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))

        self.ggml = ggml
        size = _TENSORS * ggml.size("ggml_tensor_overhead")
        self.handle = ggml.function("ggml_init", ctypes.c_void_p, Params)(Params(size, None, True))

    def matrix(self, kind: GGMLType, n_rows: int, n_per_row: int) -> int:
        """A tensor of that shape."""
        make = self.ggml.function(
            "ggml_new_tensor_2d", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
        )
        return int(make(self.handle, kind, n_per_row, n_rows))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ggml.function("ggml_free", None, ctypes.c_void_p)(self.handle)


def _row_padding(ggml: Ggml, buffers: int) -> int:
    """Weights to whose multiple the last row of a quantized tensor is padded: 512 with CUDA, one block elsewhere."""
    kind = GGMLType.Q8_0
    with _Scratch(ggml) as scratch:
        nbytes = ggml.size("ggml_backend_buft_get_alloc_size", buffers, scratch.matrix(kind, 1, kind.block_size))
    return nbytes // kind.type_size * kind.block_size


def _repacks(ggml: Ggml, handle: int) -> tuple[tuple[str, int], ...]:
    """Types of matrices that the processor keeps in an order of its own, and what their rows must be a multiple of."""
    found = ((kind, _repacked_rows(ggml, handle, kind)) for kind in GGMLType if kind.is_quantized)
    return tuple((kind.name, rows) for kind, rows in found if rows)


def _repacked_rows(ggml: Ggml, handle: int, kind: GGMLType) -> int:
    """The fewest rows, a power of two, of a matrix that the processor keeps in a buffer apart; 0 for none."""
    for buffers in _extra_buffers(ggml, handle):
        for n_rows in (4, 8, 16, 32):
            if _would_hold(ggml, handle, buffers, kind, n_rows):
                return n_rows
    return 0


def _extra_buffers(ggml: Ggml, handle: int) -> list[int]:
    registry = ggml.pointer("ggml_backend_dev_backend_reg", handle)
    find = ggml.function("ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    address = find(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    listed = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(handle)
    found: list[int] = []
    while listed and listed[len(found)]:
        found.append(int(listed[len(found)] or 0))
    return found


def _would_hold(ggml: Ggml, handle: int, buffers: int, kind: GGMLType, n_rows: int) -> bool:
    """As libllama asks (`weight_buft_supported`, src/llama-model-loader.cpp): is a product with such a matrix there?"""
    n_per_row = 512
    with _Scratch(ggml) as scratch:
        weights, inputs = scratch.matrix(kind, n_rows, n_per_row), scratch.matrix(GGMLType.F32, 512, n_per_row)
        product = ggml.pointer("ggml_mul_mat", scratch.handle, weights, inputs)
        allocate = ggml.function("ggml_backend_buft_alloc_buffer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        buffer = allocate(buffers, 0)
        ctypes.c_void_p.from_address(weights + 8).value = buffer  # ggml_tensor.buffer, behind a 4-byte type
        supported = ggml.function("ggml_backend_dev_supports_op", ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p)
        answer = bool(supported(handle, product))
        ggml.function("ggml_backend_buffer_free", None, ctypes.c_void_p)(buffer)
    return answer
