"""ggml's tensors, seen from within a computation: what they are made of, where they lie, their numbers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.errors import RunnerError


class Tensor(ctypes.Structure):
    """`struct ggml_tensor` (ggml/include/ggml.h); `Operations` makes sure that this build's is the same."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


class _InitParams(ctypes.Structure):
    """`struct ggml_init_params`."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@dataclass(frozen=True, slots=True)
class Operations:
    """The numbers that this build gives to the two kinds of matrix product: by a matrix, and by one of several."""

    mul_mat: int
    mul_mat_id: int


def operations(ggml: Ggml) -> Operations:
    """Look at tensors that the library has made.

    Raises RunnerError where they are not laid out as this program expects, so that nothing is read at the wrong place.
    """
    memory = ctypes.create_string_buffer(1 << 16)
    context = ggml.function("ggml_init", ctypes.c_void_p, _InitParams)(
        _InitParams(len(memory), ctypes.addressof(memory), False)
    )
    try:
        return _look(ggml, context)
    finally:
        ggml.function("ggml_free", None, ctypes.c_void_p)(context)


def _look(ggml: Ggml, context: int) -> Operations:
    size = ctypes.c_int64
    make = ggml.function("ggml_new_tensor_3d", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, size, size, size)
    matrices = make(context, GGMLType.F32, 4, 3, 2)
    rows = make(context, GGMLType.F32, 4, 1, 5)
    choice = make(context, GGMLType.I32, 1, 5, 1)
    ggml.function("ggml_set_name", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(matrices, b"probe")
    product = ggml.pointer("ggml_mul_mat", context, rows, rows)
    chosen = ggml.pointer("ggml_mul_mat_id", context, matrices, rows, choice)
    first, one, other = at(matrices), at(product), at(chosen)
    where = ggml.pointer("ggml_get_data", matrices)
    is_same = (
        (first.type, tuple(first.ne), tuple(first.nb)) == (GGMLType.F32, (4, 3, 2, 1), (4, 16, 48, 96))
        and (first.name, first.data, tuple(at(choice).ne)) == (b"probe", where, (1, 5, 1, 1))
        and (one.src[0], one.src[1], one.src[2]) == (rows, rows, None)
        and (other.src[0], other.src[1], other.src[2]) == (matrices, rows, choice)
    )
    if not is_same:
        raise RunnerError(
            "this llama.cpp lays out its tensors in another way than this program reads them; llama-cpp-python 0.3.36"
            " is expected: `python -m nemotron_gguf.runner.build_llama`"
        )
    return Operations(one.op, other.op)


def at(pointer: int) -> Tensor:
    """The tensor that a pointer means."""
    return Tensor.from_address(pointer)


def weight_name(tensor: Tensor) -> str:
    """A weight's name; a copy that the scheduler made on another device is called DEVICE#NAME#NUMBER."""
    name: str = tensor.name.decode("utf-8", "replace")
    parts = name.split("#")
    return parts[1] if len(parts) > 1 else name


class Reader:
    """Numbers of tensors, wherever they lie."""

    def __init__(self, ggml: Ggml) -> None:
        pointer = ctypes.c_void_p
        self._is_host = ggml.function("ggml_backend_buffer_is_host", ctypes.c_bool, pointer)
        self._nbytes = ggml.function("ggml_nbytes", ctypes.c_size_t, pointer)
        self._get = ggml.function("ggml_backend_tensor_get", None, pointer, pointer, ctypes.c_size_t, ctypes.c_size_t)
        self._copies: dict[str, npt.NDArray[np.uint8]] = {}

    def read(self, pointer: int, dtype: str, use: str) -> npt.NDArray[Any]:
        """A tensor of that type as an array of four dimensions, outermost first.

        It is the tensor's own memory, or a copy that is good until the next tensor for the same `use` is read.
        """
        tensor = at(pointer)
        nbytes = int(self._nbytes(pointer))
        if tensor.buffer and self._is_host(tensor.buffer):
            memory: Any = (ctypes.c_char * nbytes).from_address(tensor.data)
        else:
            memory = self._copies.get(use)
            if memory is None or memory.nbytes < nbytes:
                memory = self._copies[use] = np.empty(nbytes, np.uint8)
            self._get(pointer, memory.ctypes.data, 0, nbytes)
        return np.ndarray(tuple(tensor.ne)[::-1], dtype, memory, strides=tuple(tensor.nb)[::-1])
