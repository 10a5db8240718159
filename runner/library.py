"""llama.cpp's library: imported when first needed, its log kept quiet, its devices listed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from nemotron_gguf.runner.errors import RunnerError

_ERROR, _CONTINUED = 4, 5  # enum ggml_log_level (ggml/include/ggml.h)

BUILD = "python -m nemotron_gguf.runner.build_llama"


class DeviceKind(IntEnum):
    """What a device is, by ggml's number (enum ggml_backend_dev_type in ggml/include/ggml-backend.h)."""

    CPU = 0
    GPU = 1
    INTEGRATED_GPU = 2
    ACCELERATOR = 3
    META = 4


@dataclass(frozen=True, slots=True)
class Device:
    """A device that llama.cpp can compute on; memory in bytes, zero where the device does not tell."""

    name: str
    description: str
    kind: DeviceKind
    memory_free: int
    memory_total: int

    @property
    def is_gpu(self) -> bool:
        """Whether layers can be offloaded to it."""
        return self.kind in (DeviceKind.GPU, DeviceKind.INTEGRATED_GPU)


@dataclass
class _Log:
    """Where llama.cpp's messages go: to stderr when wanted; the errors are kept to explain a failure."""

    verbose: bool = False
    level: int = 0

    def __post_init__(self) -> None:
        self.errors: list[str] = []

    def write(self, level: int, text: bytes, _data: object) -> None:
        continued = level == _CONTINUED
        self.level = self.level if continued else level
        line = text.decode("utf-8", "replace")
        if self.verbose:
            print(line, end="", file=sys.stderr, flush=True)
        if self.level == _ERROR and len(self.errors) < 100:
            if continued and self.errors:
                self.errors[-1] += line
            else:
                self.errors.append(line)


_log = _Log()


def set_verbose(verbose: bool) -> None:
    """Show llama.cpp's own messages on stderr, or keep them to ourselves."""
    _log.verbose = verbose


@cache
def library() -> Any:
    """The `llama_cpp` module, ready for use.

    Raises RunnerError, in one sentence that says what to do, where it is missing or cannot be loaded.
    """
    try:
        llama_cpp = _import()
    except ModuleNotFoundError as error:
        raise RunnerError(f"llama-cpp-python is not complete here ({error}); build it: `{BUILD}`") from error
    except Exception as error:  # whatever a broken installation comes up with
        raise RunnerError(_explain(error)) from error
    return llama_cpp


def _import() -> Any:
    """The module, its log in our hands and its backends started."""
    import llama_cpp

    callback = llama_cpp.llama_log_callback(_log.write)
    llama_cpp.llama_log_set(callback, None)
    llama_cpp._nemotron_log = callback  # ctypes callbacks die with their last reference
    llama_cpp.llama_backend_init()
    return llama_cpp


def _explain(error: Exception) -> str:
    """What to do about a library that is there and does not load."""
    cause = " ".join(str(error).split())
    if "libcuda" in cause or "nvcuda" in cause:
        return (
            f"llama-cpp-python was built for CUDA and no NVIDIA driver was found ({cause}); install the driver, or"
            f" build it without CUDA: `CMAKE_ARGS=-DGGML_CUDA=off {BUILD}`"
        )
    return f"llama-cpp-python cannot be loaded ({cause}); build it again on this machine: `{BUILD}`"


def failure(default: str) -> str:
    """The first error that llama.cpp reported since `forget_failures`, on one line, or `default`."""
    lines = [" ".join(line.split()) for line in _log.errors if line.strip()]
    return lines[0].partition(": ")[2] or lines[0] if lines else default


def forget_failures() -> None:
    """Start a new step, whose errors are to be told apart from earlier ones."""
    _log.errors.clear()


def devices() -> tuple[Device, ...]:
    """All devices that ggml lists. Raises RunnerError where the library cannot be loaded.

    `llama_supports_gpu_offload` is no substitute: with the RPC backend compiled in it is always true.
    """
    ggml = _Ggml(library())
    count = ggml.function("ggml_backend_dev_count", ctypes.c_size_t)
    if not count():
        ggml.function("ggml_backend_load_all", None)()  # builds that keep each backend in a library of its own
    get = ggml.function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_describe(ggml, get(index)) for index in range(count()))


class _Ggml:
    """Functions of ggml that the Python bindings do not list; they live in one of two libraries."""

    def __init__(self, llama: Any) -> None:
        from llama_cpp._ctypes_extensions import load_shared_library

        folder = llama.llama_cpp._base_path
        self.libraries = [load_shared_library(name, folder) for name in ("ggml", "ggml-base")]

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        library = next((one for one in self.libraries if hasattr(one, name)), None)
        if library is None:
            raise RunnerError(f"this llama.cpp has no {name}; llama-cpp-python 0.3.36 or a later 0.3 is expected")
        found = library[name]
        found.restype, found.argtypes = result, list(arguments)
        return found


def _describe(ggml: _Ggml, device: int) -> Device:
    def text(name: str) -> str:
        raw = ggml.function(name, ctypes.c_char_p, ctypes.c_void_p)(device)
        return (raw or b"").decode("utf-8", "replace")

    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    memory = ggml.function("ggml_backend_dev_memory", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    memory(device, ctypes.byref(free), ctypes.byref(total))
    number = ggml.function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)(device)
    kind = DeviceKind(number) if number in set(DeviceKind) else DeviceKind.META  # a kind that later versions add
    name, description = text("ggml_backend_dev_name"), text("ggml_backend_dev_description")
    return Device(name, description.strip(), kind, free.value, total.value)
