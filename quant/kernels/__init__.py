"""Our own encoders of blocks: ggml's bits, eight sub-blocks at a time, from BF16, F16 or F32 rows directly.

The C code is compiled when the package is installed, where there is a compiler, and loaded with ctypes: no header of
Python is needed to build it, and a call lets go of the interpreter's lock. Without it, and for types that have no
kernel, `encode` says so by returning None and ggml's own quantizer does the work (`quant.ggml_base`).

The bits are those of ggml built for baseline x86-64, wherever the kernels run: docs/kernels.md tells how that is known.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.errors import QuantError

VARIABLE = "NEMOTRON_KERNELS"
"""Environment variable with one of `CHOICES`, for programs and where `choose` was not told another."""
CHOICES = ("auto", "avx2", "portable", "library")
"""The best that runs here, kernels with AVX2, kernels without it, ggml's own quantizers."""

_SOURCES = {
    np.dtype(np.float32): GGMLType.F32,
    np.dtype(np.float16): GGMLType.F16,
    np.dtype(np.uint16): GGMLType.BF16,
}
_GRIDS = {GGMLType.IQ2_XXS: 2, GGMLType.IQ2_XS: 2, GGMLType.IQ2_S: 1, GGMLType.IQ3_XXS: 2, GGMLType.IQ3_S: 3}
"""Types whose magnitudes are points of a grid, and how many distances the neighbours of a point off it may have."""

_wish = "auto"
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
    NotFiniteError for a NaN or an infinity among the weights or the scales, QuantError as `chosen` does.
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


def choose(wish: str) -> None:
    """Say what quantizes from now on, one of CHOICES; raises QuantError where that does not run here.

    `auto` leaves it to the environment, whose word is checked too.
    """
    global _wish
    before, _wish = _wish, wish
    try:
        chosen()
    except QuantError:
        _wish = before
        raise


def chosen() -> str:
    """`avx2`, `portable`, or `library` where ggml's own quantizer works for want of kernels or by wish.

    Raises QuantError for a wish that is none, or that does not run on this machine.
    """
    named, wish = "--kernels", _wish
    if wish == "auto":
        named, wish = VARIABLE, os.environ.get(VARIABLE, "") or "auto"
    if wish not in CHOICES:
        raise QuantError(f"{named} is {wish!r}, expected one of {', '.join(CHOICES)}")
    known = (*instruction_sets(), "library")
    if wish == "auto":
        return known[0]
    if wish not in known:
        why = "this processor has no AVX2" if instruction_sets() else "no kernels were compiled with this package"
        raise QuantError(f"{named} is {wish!r}, but {why}; expected auto or {' or '.join(known)}")
    return wish


def identity() -> dict[str, str]:
    """What an unfinished file must agree in: nothing where the library gives the kernels' bits, as on x86-64."""
    same_bits = platform.machine().lower() in ("x86_64", "amd64")
    return {"kernels": "library"} if chosen() == "library" and not same_bits else {}


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
    codes, n_distances = grid_codes(kind)
    if not _library().nemotron_set_grid(kind, codes.ctypes.data, len(codes), n_distances):
        raise MemoryError(f"no memory for the grid of {kind.name}")


def grid_codes(kind: GGMLType) -> tuple[npt.NDArray[np.uint16], int]:
    """The points of a type's grid as codes (grid.h), and how many distances a point's neighbours may have.

    The gguf package knows the points, as they are decoded. Types without a grid have no points.
    """
    if kind not in _GRIDS:
        return np.empty(0, dtype=np.uint16), 0
    import gguf.quants

    known = getattr(gguf.quants, kind.name)
    known.init_grid()
    levels = np.searchsorted(known.grid_map, known.grid.reshape(-1, known.grid.shape[-1]))
    n_bits = 2 if levels.shape[1] == 8 else 3
    codes: npt.NDArray[np.uint16] = (levels << n_bits * np.arange(levels.shape[1])).sum(axis=1).astype(np.uint16)
    return codes, _GRIDS[kind]


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
