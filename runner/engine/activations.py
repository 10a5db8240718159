"""What goes into each matrix product while a model runs: sums of squares by column, for each expert of a stack apart.

The rules are those of llama.cpp's tools/imatrix/imatrix.cpp, `collect_imatrix`: every product by experts; of the others
those of the layers, with 16 rows or more and inputs in F32, and the output where it is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.imatrix import Sums
from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.engine.tensors import Reader, Tensor, at, operations, weight_name
from nemotron_gguf.runner.errors import RunnerError

FEWEST_ROWS = 16  # of a product that counts
OUTPUT = "output.weight"
LAST = b"result_norm"  # what goes into the output matrix, by the name that llama.cpp's graphs give it
_TOGETHER = 16  # rows whose squares are added in single precision before they go into the double-precision sums


class Collector:
    """Sums of squares and counts by weight, filled while libllama computes.

    `watch` is what `ggml_backend_sched_eval_callback` calls; what goes wrong within it is raised by `check`.
    """

    def __init__(self, llama: Any, *, process_output: bool) -> None:
        ggml = Ggml(llama)
        self.operations, self.reader, self.process_output = operations(ggml), Reader(ggml), process_output
        self.values: dict[str, npt.NDArray[np.float64]] = {}  # (n_parts, n_per_part)
        self.counts: dict[str, npt.NDArray[np.int64]] = {}  # (n_parts,)
        self.error: Exception | None = None

    def watch(self, pointer: int, ask: bool, _data: object) -> bool:
        """Called before and after each operation: whether it is wanted; whether to go on."""
        try:
            tensor = at(pointer)
            if ask:
                return self._is_wanted(tensor)
            if tensor.name == LAST:
                return False  # the output matrix, a tenth of the work and more, has nothing to tell
            if self.error is None:
                self._take(tensor)
        except Exception as error:  # ctypes would print and drop it
            self.error = error
        return self.error is None

    def check(self) -> None:
        """Raise what went wrong while libllama computed."""
        if self.error is not None:
            raise self.error

    def restore(self, name: str, sums: Sums) -> None:
        """Go on from what an earlier run collected."""
        self.values[name], self.counts[name] = sums.load().copy(), sums.counts.copy()

    @property
    def entries(self) -> dict[str, Sums]:
        """What was collected so far."""
        return {name: Sums.of(values, self.counts[name]) for name, values in self.values.items()}

    @property
    def fewest(self) -> int:
        """Tokens that the least used expert, or weight, has seen."""
        return min((int(counts.min()) for counts in self.counts.values()), default=0)

    def _is_wanted(self, tensor: Tensor) -> bool:
        if tensor.op == self.operations.mul_mat_id:
            return True
        if tensor.op != self.operations.mul_mat:
            return not self.process_output and tensor.name == LAST
        inputs = at(tensor.src[1])
        if inputs.ne[1] < FEWEST_ROWS or inputs.type != GGMLType.F32:
            return False
        name = weight_name(at(tensor.src[0]))
        return name.startswith("blk.") or (self.process_output and name == OUTPUT)

    def _take(self, tensor: Tensor) -> None:
        weight = at(tensor.src[0])
        name = weight_name(weight)
        inputs = self.reader.read(tensor.src[1], "<f4", "inputs")
        if tensor.op == self.operations.mul_mat_id:
            self._take_experts(name, weight.ne[2], inputs[0], self.reader.read(tensor.src[2], "<i4", "ids")[0, 0])
        else:
            self._take_dense(name, weight.ne[3], weight.ne[2], inputs)

    def _take_dense(self, name: str, n_outer: int, n_inner: int, inputs: npt.NDArray[np.float32]) -> None:
        """Inputs `(outer, inner, rows, columns)` of a weight of so many matrices, which repeat; one count for all."""
        outer, inner, rows, columns = inputs.shape
        values, counts = self._place(name, 1, n_outer * n_inner * columns)
        by_matrix = values.reshape(n_outer * n_inner, columns)
        for i3 in range(outer):
            for i2 in range(inner):
                by_matrix[i3 % n_outer * n_inner + i2 % n_inner] += self._squares(name, inputs[i3, i2])
        counts += outer * inner * rows // (n_outer * n_inner)

    def _take_experts(
        self, name: str, n_experts: int, inputs: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]
    ) -> None:
        """Inputs `(tokens, 1 or used, columns)` and the experts that each token goes to, `(tokens, used)`."""
        used = ids.shape[1]
        chosen = ids.ravel()
        if chosen.min() < 0 or chosen.max() >= n_experts:
            raise RunnerError(f"{name} has {n_experts} experts and is asked for another; the file is damaged")
        values, counts = self._place(name, n_experts, inputs.shape[2])
        order = np.argsort(chosen, kind="stable")
        tokens, places = order // used, order % used % inputs.shape[1]
        times = np.bincount(chosen, minlength=n_experts)
        last = np.cumsum(times)
        for expert in np.flatnonzero(times):
            mine = slice(last[expert] - times[expert], last[expert])
            values[expert] += self._squares(name, inputs[tokens[mine], places[mine]])
        counts += times

    def _place(self, name: str, n_parts: int, n_per_part: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        if name not in self.values:
            self.values[name] = np.zeros((n_parts, n_per_part))
            self.counts[name] = np.zeros(n_parts, np.int64)
        values = self.values[name]
        if values.shape != (n_parts, n_per_part):
            raise RunnerError(f"{name} is used in two ways, with {values.size} and {n_parts * n_per_part} columns")
        return values, self.counts[name]

    def _squares(self, name: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Sums of squares by column of `(n, columns)`."""
        total = np.zeros(rows.shape[1])
        for first in range(0, len(rows), _TOGETHER):
            part = rows[first : first + _TOGETHER]
            total += np.einsum("ij,ij->j", part, part)
        if not np.isfinite(total).all():
            raise RunnerError(
                f"what goes into {name} is not finite (NaN or infinity); the file is damaged, or the device computes"
                " wrongly: try `nemotron verify`, or another --device"
            )
        return total
