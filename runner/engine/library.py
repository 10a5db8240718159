"""llama.cpp's library: imported when first needed, its log kept quiet, its devices listed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """A device that llama.cpp can compute on; memory in bytes, zero where the device does not tell.

    `endpoint` is the HOST:PORT of the RPC worker that it belongs to. Buffers of `buffer_type` hold tensors at multiples
    of `alignment` bytes, quantized rows filled up to `row_padding` weights; `repacks` names types of matrices that the
    processor keeps in a buffer apart, where their rows are such a multiple.
    """

    name: str
    description: str
    kind: DeviceKind
    memory_free: int
    memory_total: int
    buffer_type: str = ""
    endpoint: str = ""
    alignment: int = 32
    row_padding: int = 1
    repacks: tuple[tuple[str, int], ...] = ()

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
        self.listeners: list[list[str]] = []

    def write(self, level: int, text: bytes, _data: object) -> None:
        continued = level == _CONTINUED
        self.level = self.level if continued else level
        line = text.decode("utf-8", "replace")
        for lines in self.listeners:
            lines.append(line)
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


@contextmanager
def listen(lines: list[str]) -> Iterator[None]:
    """Add all that llama.cpp says meanwhile to `lines`."""
    _log.listeners.append(lines)
    try:
        yield
    finally:
        _log.listeners.remove(lines)


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


def devices(rpc: Sequence[str] = ()) -> tuple[Device, ...]:
    """All devices that ggml lists, with those of the RPC workers at `rpc` (HOST:PORT).

    Raises RunnerError where the library cannot be loaded and where a worker does not answer.
    `llama_supports_gpu_offload` is no substitute: with the RPC backend compiled in it is always true.
    """
    from nemotron_gguf.runner.engine.hardware import find_devices  # which takes its types from here

    return find_devices(library(), rpc)
