"""The importance of a tensor's columns, fitted to the widths that it gets.

An importance matrix is made with the model as it was published: its columns are then zero-extended where the tensor is
padded (columns of zeros matter nothing) and reduced where neurons are left out. One that was made with the resized
model itself fits as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.plan import TensorPlan
from nemotron_gguf.convert.widths.resize import Side, resize_columns
from nemotron_gguf.convert.widths.table import sides
from nemotron_gguf.models.imatrix import Imatrix, ImatrixEntry
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.place import Kind, kind_of


@dataclass(frozen=True, eq=False)
class Importance:
    """What an importance matrix says of a tensor: `columns` tells how its columns became the tensor's."""

    entry: ImatrixEntry
    columns: Side

    def of(self, matrix: int) -> npt.NDArray[np.float32]:
        """The mean squares of a matrix's (an expert's) columns, `(n_per_row,) float32`."""
        old = self.columns.old
        values = self.entry.read(matrix * old, (matrix + 1) * old)
        if self.columns.new == old:
            return values
        fitted = np.zeros(self.columns.new, np.float32)
        resize_columns(values[np.newaxis], self.columns, matrix, fitted[np.newaxis])
        return fitted


def importance_of(
    tensor: TensorPlan, imatrix: Imatrix | None, padded: Mapping[Dimension, int], *, latent: bool
) -> Importance | None:
    """What a matrix has for a tensor; `padded` are the widths that the source tells it was padded from earlier.

    Raises QuantError, with both widths, for a size that does not fit; it is excused for the embedding, as in llama.cpp.
    Raises ModelError for a matrix none of whose columns matters.
    """
    entry = imatrix.entries.get(tensor.name) if imatrix else None
    if imatrix is None or entry is None:
        return None
    n_matrices, now = prod(tensor.shape[:-2]), tensor.n_per_row
    before = _before(tensor, padded, latent=latent)
    for columns in (Side(now, now), *before):
        if entry.n_values == n_matrices * columns.old:
            imatrix.check_rows(tensor.name, columns.old)
            return Importance(entry, columns)
    if kind_of(tensor.name) is Kind.TOKEN_EMBD:
        return None
    expected = " or ".join(str(n_matrices * width) for width in (now, *(side.old for side in before)))
    wide = "".join(f", {side.old} before its width was changed" for side in before)
    raise QuantError(
        f"the importance matrix has {entry.n_values} values for {tensor.name}, expected {expected}"
        f" (rows of {now}{wide}); it was made for another model"
    )


def _before(tensor: TensorPlan, padded: Mapping[Dimension, int], *, latent: bool) -> tuple[Side, ...]:
    """The columns as they were before this run, or an earlier one, changed them."""
    if tensor.resize is not None and tensor.resize.columns.old != tensor.resize.columns.new:
        return (tensor.resize.columns,)
    known = sides(tensor.name, latent=latent)
    if known is None or known.columns is None or known.columns not in padded:
        return ()
    old = padded[known.columns] * known.halves
    return (Side(old, tensor.n_per_row, halves=known.halves),) if old < tensor.n_per_row else ()
