"""Our own encoders of blocks: ggml's bits, eight sub-blocks at a time, from BF16, F16 or F32 rows directly.

The C code is compiled when the package is installed, where there is a compiler, and loaded with ctypes: no header of
Python is needed to build it, and a call lets go of the interpreter's lock. Without it, and for types that have no
kernel, `encode` says so by returning None and ggml's own quantizer does the work (`quant.ggml_base`).

The bits are those of ggml built for baseline x86-64, wherever the kernels run: docs/kernels.md tells how that is known.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.models.ggml import GGMLType

VARIABLE = "NEMOTRON_KERNELS"
"""Environment variable: `library` (ggml's own quantizer), `portable` (no AVX2), else the best that runs here."""

_SOURCES = {
    np.dtype(np.float32): GGMLType.F32,
    np.dtype(np.float16): GGMLType.F16,
    np.dtype(np.uint16): GGMLType.BF16,
}
_GRIDS = {GGMLType.IQ2_XXS: 2, GGMLType.IQ2_XS: 2, GGMLType.IQ2_S: 1, GGMLType.IQ3_XXS: 2, GGMLType.IQ3_S: 3}
"""Types whose magnitudes are points of a grid, and how many distances the neighbours of a point off it may have."""

_hand_over = Lock()
_DONE, _NO_KERNEL, _INPUT_NOT_FINITE, _SCALE_NOT_FINITE = range(4)  # unit.h


class NotFiniteError(ValueError):
    """A NaN or an infinity in row `row`: of the weights where `in_input`, else of what they became."""

    def __init__(self, row: int, in_input: bool) -> None:
        super().__init__(row, in_input)
        self.row, self.in_input = row, in_input


class _Job(ctypes.Structure):
    """`Job` of unit.h."""

    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("n_rows", ctypes.c_int64),
        ("n_per_row", ctypes.c_int64),
        ("importance", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("source", ctypes.c_int),
        ("type", ctypes.c_int),
    )


def encode(
    kind: GGMLType, values: npt.NDArray[np.generic], importance: npt.NDArray[np.float32] | None, lanes: str = ""
) -> Rows | None:
    """Encode `(n, n_per_row)` in float32, float16 or uint16 (the bits of BF16) as `(n, row_bytes) uint8`.

    None where no kernel does it. `lanes` is one of `instruction_sets()`, the choice of this machine if empty. Raises
    NotFiniteError for a NaN or an infinity among the weights or the scales.
    """
    lanes = lanes or chosen()
    if lanes not in instruction_sets():
        return None
    _set_grid(kind)
    n_rows, n_per_row = values.shape
    if values.strides[1] != values.itemsize:
        values = np.ascontiguousarray(values)
    blocks = np.empty((n_rows, kind.row_bytes(n_per_row)), dtype=np.uint8)
    if importance is not None:
        importance = np.ascontiguousarray(importance, dtype=np.float32)
    weights = None if importance is None else importance.ctypes.data
    job = _Job(values.ctypes.data, values.strides[0], n_rows, n_per_row, weights, blocks.ctypes.data)
    job.source, job.type = _SOURCES[values.dtype], kind
    row = ctypes.c_int64()
    result = _library().nemotron_encode(ctypes.byref(job), lanes == "avx2", ctypes.byref(row))
    if result == _NO_KERNEL:
        return None
    if result != _DONE:
        raise NotFiniteError(row.value, in_input=result == _INPUT_NOT_FINITE)
    return blocks


def has_kernel(kind: GGMLType, weighted: bool) -> bool:
    """Whether there is a kernel for a type, with importance (`weighted`) or without; some types take only one."""
    if not instruction_sets():
        return False
    job = _Job(n_per_row=kind.block_size, importance=1 if weighted else None, type=kind, source=GGMLType.F32)
    return bool(_library().nemotron_encode(ctypes.byref(job), False, None) == _DONE)


def chosen() -> str:
    """`avx2`, `portable`, or `library` where ggml's own quantizer works for want of kernels or by wish."""
    wish = os.environ.get(VARIABLE, "")
    if wish == "library" or not instruction_sets():
        return "library"
    return wish if wish in instruction_sets() else instruction_sets()[0]


@cache
def instruction_sets() -> tuple[str, ...]:
    """What the compiled kernels can use on this machine, best first; empty where none were compiled."""
    try:
        lib = _library()
    except OSError:
        return ()
    return ("avx2", "portable") if lib.nemotron_has_avx2() else ("portable",)


def _set_grid(kind: GGMLType) -> None:
    if kind in _GRIDS:
        with _hand_over:  # two threads must not hand over one grid
            _set_grid_once(kind)


@cache
def _set_grid_once(kind: GGMLType) -> None:
    """Hand a type's grid to the kernels; the gguf package knows the points, as they are decoded."""
    import gguf.quants

    known = getattr(gguf.quants, kind.name)
    known.init_grid()
    levels = np.searchsorted(known.grid_map, known.grid.reshape(-1, known.grid.shape[-1]))
    n_bits = 2 if levels.shape[1] == 8 else 3
    codes = (levels << n_bits * np.arange(levels.shape[1])).sum(axis=1).astype(np.uint16)
    if not _library().nemotron_set_grid(kind, codes.ctypes.data, len(codes), _GRIDS[kind]):
        raise MemoryError(f"no memory for the grid of {kind.name}")


@cache
def _library() -> ctypes.CDLL:
    """The compiled kernels; raises OSError where there are none."""
    here = Path(__file__).parent
    found = [path for suffix in EXTENSION_SUFFIXES if (path := here / f"_kernels{suffix}").is_file()]
    if not found:
        raise OSError(f"{here} has no compiled kernels")
    lib = ctypes.CDLL(str(found[0]))
    lib.nemotron_has_avx2.restype = ctypes.c_int
    lib.nemotron_encode.restype = ctypes.c_int
    lib.nemotron_encode.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    lib.nemotron_set_grid.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    return lib
