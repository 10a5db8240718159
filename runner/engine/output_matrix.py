"""A model's last step alone: from what goes into its output matrix to logits, by the very operation of the model.

So the logits of a reference need not be kept: their inputs are fifty times smaller for a vocabulary of 131,072. The
bits are the same where the operation is; whether it is, is found out while the inputs are taken, row by row.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.engine.hardware import handle_of
from nemotron_gguf.runner.engine.tensors import Reader, at, operations, weight_name
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.process.messages import OutputMatrix

Rows = npt.NDArray[np.float32]
NAMES = ("output.weight", "token_embd.weight")  # the second where a model has one matrix for both
_RESULT = b"result_output"  # the name that llama.cpp's graphs give to the product
_ROOM, _NODES = 1 << 16, 8  # bytes for the description of a graph, and how many operations it has room for


class InputTaker:
    """Takes what goes into the output matrix while libllama computes.

    `watch` is what `ggml_backend_sched_eval_callback` calls.
    """

    def __init__(self, llama: Any) -> None:
        ggml = Ggml(llama)
        self._operations, self._reader = operations(ggml), Reader(ggml)
        self.callback = llama.ggml_backend_sched_eval_callback(self._watch)
        self._taken: list[Rows] = []

    def take(self) -> Rows | None:
        """The rows since the last call, `(n, n_embd) float32`; None where the model has no such operation."""
        taken, self._taken = self._taken, []
        return np.concatenate(taken) if taken else None

    def _watch(self, pointer: int, ask: bool, _data: object) -> bool:
        try:
            tensor = at(pointer)
            wanted = tensor.name == _RESULT and tensor.op == self._operations.mul_mat
            if not wanted or ask:
                return bool(wanted) or not ask
            if weight_name(at(tensor.src[0])) in NAMES and at(tensor.src[1]).type == GGMLType.F32:
                self._taken.append(self._reader.read(tensor.src[1], "<f4", "inputs")[0, 0].copy())
        except Exception:  # ctypes would print and drop it; without inputs the logits themselves are kept
            self._taken = []
        return True


class OutputProduct:
    """The matrix of a file, mapped, and the product with it on the processor; a context manager."""

    def __init__(self, llama: Any, matrix: OutputMatrix, threads: int) -> None:
        """Raises RunnerError where the file cannot be read, or this build has no such functions."""
        self.ggml, self.matrix = Ggml(llama), matrix
        path = Path(os.fsdecode(matrix.path))
        kind = GGMLType[matrix.type]
        self._nbytes = matrix.n_rows * (matrix.n_columns // kind.block_size) * kind.type_size
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise RunnerError(f"{path} cannot be read: {error}") from error
        if matrix.offset + self._nbytes > len(self._map):
            raise RunnerError(f"{path} ends within its output matrix; verify it with `nemotron verify`")
        self._weights = np.frombuffer(self._map, np.uint8, self._nbytes, matrix.offset)
        self._backend = self._start(threads)

    def _start(self, threads: int) -> int:
        """The processor's backend."""
        device = handle_of(self.ggml, "CPU")
        backend = self.ggml.pointer("ggml_backend_dev_init", device, 0)
        registry = self.ggml.pointer("ggml_backend_dev_backend_reg", device)
        find = self.ggml.function(
            "ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p
        )
        address = find(registry, b"ggml_backend_set_n_threads")
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(address)(backend, threads)
        return backend

    def logits(self, inputs: Rows) -> Rows:
        """Logits `(n, n_rows of the matrix) float32` of inputs `(n, n_columns) float32`."""
        inputs = np.ascontiguousarray(inputs, np.float32)
        result = np.empty((len(inputs), self.matrix.n_rows), np.float32)
        memory = ctypes.create_string_buffer(_ROOM)
        context = self._context(memory)
        try:
            kind = GGMLType[self.matrix.type]
            weights = self._tensor(context, kind, self.matrix.n_columns, self.matrix.n_rows, self._weights)
            given = self._tensor(context, GGMLType.F32, self.matrix.n_columns, len(inputs), inputs)
            product = self.ggml.pointer("ggml_mul_mat", context, weights, given)
            at(product).data = result.ctypes.data
            size, gradients = ctypes.c_size_t, ctypes.c_bool
            new = self.ggml.function("ggml_new_graph_custom", ctypes.c_void_p, ctypes.c_void_p, size, gradients)
            graph = new(context, _NODES, False)
            expand = self.ggml.function("ggml_build_forward_expand", None, ctypes.c_void_p, ctypes.c_void_p)
            expand(graph, product)
            compute = self.ggml.function("ggml_backend_graph_compute", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
            status = compute(self._backend, graph)
        finally:
            self.ggml.function("ggml_free", None, ctypes.c_void_p)(context)
        if status:
            raise RunnerError(f"the reference's logits could not be computed (status {status}); try again")
        return result

    def _context(self, memory: Any) -> int:
        class Params(ctypes.Structure):
            _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))

        make = self.ggml.function("ggml_init", ctypes.c_void_p, Params)
        return int(make(Params(len(memory), ctypes.addressof(memory), True)))

    def _tensor(self, context: int, kind: GGMLType, n_columns: int, n_rows: int, data: npt.NDArray[Any]) -> int:
        make = self.ggml.function(
            "ggml_new_tensor_2d", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
        )
        tensor = int(make(context, kind, n_columns, n_rows))
        at(tensor).data = data.ctypes.data
        return tensor

    def close(self) -> None:
        """Free everything."""
        self.ggml.function("ggml_backend_free", None, ctypes.c_void_p)(self._backend)
        del self._weights
        self._map.close()
