"""Which neurons can be spared: those whose absence moves the output least, by the importance matrix.

What a matrix gets from neuron j has the mean square E[a_j²], which is the importance of its column j; leaving the
neuron out moves the output by E[a_j²]·‖W[:, j]‖². That is the error of setting the column to zero, in the unit in which
quantization is weighed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.cast import PLAIN, to_float32
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.widths.change import BLOCK, new_widths, widths_of
from nemotron_gguf.convert.widths.resize import Kept
from nemotron_gguf.convert.widths.table import TRIMMABLE, part_of
from nemotron_gguf.models.imatrix import Imatrix, ImatrixEntry
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant.errors import QuantError

READ_WEIGHTS = 1 << 22  # weights looked at together

Report = Callable[[int, int, str], None]
"""Called with the weights seen, the weights in all, and the tensor."""


@dataclass(frozen=True)
class Trimming:
    """Widths that go down to a multiple of the block, and the neurons that stay, by the matrix that reads them.

    Without `kept` it is good for sizes alone. `error` is the share of the trimmed matrices' output energy that is lost,
    neurons taken as independent.
    """

    dimensions: frozenset[Dimension]
    kept: Mapping[str, Kept] = field(default_factory=dict)
    error: float | None = None


def to_be_trimmed(plan: FilePlan, block: int = BLOCK) -> Trimming:
    """What would be trimmed, for a look at the sizes; raises as `choose_neurons` where there is nothing."""
    new = new_widths(widths_of(plan), trim=tuple(TRIMMABLE), block=block)
    if not new:
        raise QuantError(f"no width of its experts or MLPs is above a multiple of {block}; leave out --trim")
    return Trimming(frozenset(new))


def choose_neurons(
    plan: FilePlan,
    imatrix: Imatrix,
    block: int = BLOCK,
    report: Report = lambda done, total, name: None,  # noqa: ARG005 - a listener that does nothing
) -> Trimming:
    """Read every matrix whose neurons can be spared, once, and keep the dearest.

    Raises QuantError where there is nothing to trim, and where the importance matrix does not tell of each neuron.
    """
    dimensions = to_be_trimmed(plan, block).dimensions
    new = new_widths(widths_of(plan), trim=dimensions, block=block)
    parts = {TRIMMABLE[dimension]: width for dimension, width in new.items()}
    tensors = [tensor for tensor in plan.tensors if part_of(tensor.name) in parts]
    entries = {tensor.name: _entry(tensor, imatrix) for tensor in tensors}
    total = sum(tensor.n_rows * tensor.n_per_row for tensor in tensors)
    kept: dict[str, Kept] = {}
    done, lost, energy = 0, 0.0, 0.0
    for tensor in tensors:
        scores = np.zeros((prod(tensor.shape[:-2]), tensor.n_per_row))
        for matrix, norms, n_weights in _norms(tensor):
            scores[matrix] += norms
            done += n_weights
            report(done, total, tensor.name)
        scores *= entries[tensor.name].read(0, scores.size).reshape(scores.shape)
        n_dropped = tensor.n_per_row - parts[part_of(tensor.name)]
        order = np.argsort(scores, axis=1, kind="stable")
        kept[tensor.name] = np.sort(order[:, n_dropped:], axis=1).astype(np.int64)
        lost += float(np.take_along_axis(scores, order[:, :n_dropped], axis=1).sum())
        energy += float(scores.sum())
    return Trimming(dimensions, kept, lost / energy if energy else 0.0)


def _entry(tensor: TensorPlan, imatrix: Imatrix) -> ImatrixEntry:
    """What the importance matrix has for a tensor, of every expert; half a knowledge would drop the wrong ones."""
    entry = imatrix.entries.get(tensor.name)
    if entry is None:
        raise QuantError(f"the importance matrix {imatrix.name} says nothing of {tensor.name}, which trimming needs")
    expected = tensor.n_per_row * prod(tensor.shape[:-2])
    if entry.n_values != expected:
        raise QuantError(
            f"the importance matrix has {entry.n_values} values for {tensor.name}, expected {expected};"
            " it was made for another model"
        )
    if unseen := int((entry.counts <= 0).sum()):
        raise QuantError(
            f"the importance matrix never saw {unseen} of the {len(entry.counts)} experts of {tensor.name}, and cannot"
            " tell which of their neurons can be spared; compute it with more text"
        )
    return entry


def _norms(tensor: TensorPlan) -> Iterator[tuple[int, npt.NDArray[np.float64], int]]:
    """(matrix, sums of squares of its columns, weights seen), piece by piece."""
    if tensor.sources[0].type not in PLAIN or tensor.resize is not None or tensor.transform is not None:
        raise QuantError(f"tensor {tensor.name} is {tensor.type.name} already; trim an F16, BF16 or F32 file")
    rows_per_matrix, start = tensor.shape[-2], 0
    step = max(1, READ_WEIGHTS // tensor.n_per_row)
    for source in tensor.sources:
        first = 0
        while first < source.n_rows:
            matrix, inside = divmod(start + first, rows_per_matrix)
            last = min(first + step, source.n_rows, first + rows_per_matrix - inside)
            values = to_float32(source.read(first, last), source.type)
            yield matrix, np.einsum("ij,ij->j", values, values, dtype=np.float64), values.size
            first = last
        start += source.n_rows
