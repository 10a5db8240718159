"""From numbers to blocks and back: our own kernels, and ggml's quantizers in the library of llama-cpp-python.

Everything that turns numbers into blocks goes through `quantize_rows`, which asks `quant.kernels` first. Only
libggml-base is loaded, never libllama and its backends, so this works where a GPU build finds no driver. ctypes
releases the interpreter's lock during each call: threads run side by side.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.kernels import NotFiniteError

ENCODABLE = frozenset(GGMLType) - {
    GGMLType.Q8_1,  # an intermediate of ggml's dot products, as Q8_K is
    GGMLType.Q8_K,
    *(GGMLType.I8, GGMLType.I16, GGMLType.I32, GGMLType.I64, GGMLType.F64),
}
"""The types that ggml_quantize_chunk knows how to write."""

NEEDS_IMPORTANCE = frozenset({GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ1_S})
"""The types that ggml refuses to write without importance (`ggml_quantize_requires_imatrix`)."""

Numbers = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.uint16]
"""`(n, n_per_row)`: rows of F32, of F16, or of the bits of BF16."""

_FLOATS = npt.NDArray[np.float32]
_PREFIXES, _SUFFIXES = ("lib", ""), (".so", ".dylib", ".dll")


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


def quantize_rows(kind: GGMLType, values: Numbers, importance: _FLOATS | None) -> Rows:
    """Encode `(n, n_per_row)` as `(n, row_bytes) uint8`, by a kernel of ours or, where there is none, by ggml.

    `importance` is `(n_per_row,) float32`, the same for all the rows; None weighs every column alike. Raises
    NotFiniteError for a NaN or an infinity among the weights, or among the scales that they lead to.
    """
    assert kind in ENCODABLE, kind
    assert importance is not None or kind not in NEEDS_IMPORTANCE, kind
    assert importance is None or importance.shape == (values.shape[1],), importance.shape
    blocks = kernels.encode(kind, values, importance)
    return blocks if blocks is not None else _by_library(kind, as_float32(values), importance)


def as_float32(values: Numbers) -> _FLOATS:
    """The same numbers, exactly; float32 is passed through."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def _by_library(kind: GGMLType, values: _FLOATS, importance: _FLOATS | None) -> Rows:
    """What `quantize_rows` promises, in libggml-base."""
    finite = np.isfinite(values)
    if not finite.all():
        raise NotFiniteError(int(finite.all(axis=1).argmin()), in_input=True)
    n_rows, n_per_row = values.shape
    values = np.ascontiguousarray(values)
    blocks = np.empty((n_rows, kind.row_bytes(n_per_row)), dtype=np.uint8)
    if importance is not None:
        importance = np.ascontiguousarray(importance, dtype=np.float32)
    weights = None if importance is None else importance.ctypes.data
    written = library().ggml_quantize_chunk(kind, values.ctypes.data, blocks.ctypes.data, 0, n_rows, n_per_row, weights)
    assert written == blocks.nbytes, (kind, written, blocks.nbytes)
    if not are_sound(kind, blocks):
        raise NotFiniteError(0, in_input=False)
    return blocks


def dequantize_rows(kind: GGMLType, rows: Rows, n_per_row: int) -> _FLOATS:
    """Decode the blocks of `(n, row_bytes) uint8` as `(n, n_per_row) float32`."""
    rows = np.ascontiguousarray(rows)
    values = np.empty((len(rows), n_per_row), dtype=np.float32)
    _traits(kind).to_float(rows.ctypes.data, values.ctypes.data, values.size)
    return values


def can_dequantize(kind: GGMLType) -> bool:
    """Whether ggml has a decoder for the blocks of a type."""
    return kind.is_quantized and bool(_traits(kind).to_float)


def are_sound(kind: GGMLType, rows: Rows) -> bool:
    """Whether ggml finds no NaN and no infinity in `(n, row_bytes) uint8`."""
    rows = np.ascontiguousarray(rows)
    return bool(library().ggml_validate_row_data(kind, rows.ctypes.data, rows.nbytes))


def _traits(kind: GGMLType) -> _TypeTraits:
    traits: _TypeTraits = library().ggml_get_type_traits(kind).contents
    if (traits.blck_size, traits.type_size) != (kind.block_size, kind.type_size):
        raise QuantError(
            f"the installed ggml has blocks of {traits.blck_size} weights in {traits.type_size} bytes for {kind.name},"
            f" expected {kind.block_size} in {kind.type_size}; install the llama-cpp-python that this package asks for"
        )
    return traits


@cache
def library() -> ctypes.CDLL:
    """libggml-base, with the signatures of the functions used here; raises QuantError where there is none."""
    folder = _library_folder()
    names = [f"{prefix}ggml-base{suffix}" for prefix in _PREFIXES for suffix in _SUFFIXES]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise QuantError(f"{folder} has none of {', '.join(names)}; install llama-cpp-python again")
    try:
        if hasattr(os, "add_dll_directory"):
            os.add_dll_directory(str(folder))
        lib = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise QuantError(f"{found[0]} cannot be loaded: {error}; install llama-cpp-python again") from error
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, integer, integer, integer, pointer]
    lib.ggml_validate_row_data.restype = ctypes.c_bool
    lib.ggml_validate_row_data.argtypes = [ctypes.c_int, pointer, ctypes.c_size_t]
    lib.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    lib.ggml_get_type_traits.argtypes = [ctypes.c_int]
    return lib


def _library_folder() -> Path:
    """Where llama-cpp-python keeps its libraries, found without importing it (which would load all of them)."""
    if override := os.environ.get("LLAMA_CPP_LIB_PATH"):
        return Path(override)
    spec = find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise QuantError("llama-cpp-python is not installed, its ggml does the quantizing; install it with pip")
    return Path(spec.submodule_search_locations[0]) / "lib"
