"""exp to the bit as llama.cpp's converter takes it, which is torch's: on x86 the one of Intel's math library in it.

That is not the nearest float in one of a hundred cases, and both are to write the same files. Importing torch takes
longer than converting a small model, so its library is called directly where it has the function.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# VML_HA, VML_FTZDAZ_OFF and VML_ERRMODE_IGNORE of oneMKL's vector mathematics, the mode in which torch calls it.
_MODE = 0x2 | 0x140000 | 0x100

Floats = npt.NDArray[np.float32]


def exp(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """exp of float32 or float16 `values`, in their precision."""
    direct = _library_exp() if values.dtype == np.float32 else None
    if direct is not None:
        return direct(np.ascontiguousarray(values))
    import torch

    result: npt.NDArray[Any] = torch.exp(torch.from_numpy(np.array(values))).numpy()
    return result


@cache
def _library_exp() -> Callable[[Floats], Floats] | None:
    """vmsExp of the math library that torch carries; None where it carries another or hides it."""
    spec = find_spec("torch")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder, "lib").glob("*torch_cpu.*")):
            try:
                function = ctypes.CDLL(str(path)).vmsExp
            except (OSError, AttributeError):
                continue
            function.restype = None
            function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
            return lambda values: _call(function, values)
    return None


def _call(function: Callable[..., None], values: Floats) -> Floats:
    result = np.empty_like(values)
    function(values.size, values.ctypes.data, result.ctypes.data, _MODE)
    return result
