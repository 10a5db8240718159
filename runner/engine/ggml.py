"""Functions of ggml that the Python bindings do not list, called with the types that its headers give."""

from __future__ import annotations

import ctypes
from typing import Any

from nemotron_gguf.runner.errors import RunnerError


class Ggml:
    """ggml's libraries, each function by its name."""

    def __init__(self, llama: Any) -> None:
        """`llama`: the `llama_cpp` module."""
        from llama_cpp._ctypes_extensions import load_shared_library

        folder = llama.llama_cpp._base_path
        self.libraries = [load_shared_library(name, folder) for name in ("ggml", "ggml-base")]

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function with its types. Raises RunnerError where this build has none of that name."""
        library = next((one for one in self.libraries if hasattr(one, name)), None)
        if library is None:
            raise RunnerError(f"this llama.cpp has no {name}; llama-cpp-python 0.3.36 or a later 0.3 is expected")
        found = library[name]
        found.restype, found.argtypes = result, list(arguments)
        return found

    def pointer(self, name: str, *arguments: Any) -> int:
        """What a function gives that takes pointers and gives one; 0 for none."""
        return self.function(name, ctypes.c_void_p, *[ctypes.c_void_p] * len(arguments))(*arguments) or 0

    def size(self, name: str, *arguments: int) -> int:
        """What a function gives that takes pointers and gives a number of bytes."""
        return int(self.function(name, ctypes.c_size_t, *[ctypes.c_void_p] * len(arguments))(*arguments))

    def text(self, name: str, pointer: int) -> str:
        """What a function says of a thing."""
        raw = self.function(name, ctypes.c_char_p, ctypes.c_void_p)(pointer)
        return (raw or b"").decode("utf-8", "replace").strip()

    def devices(self) -> list[int]:
        """Handles of all devices that ggml lists."""
        count = self.function("ggml_backend_dev_count", ctypes.c_size_t)
        if not count():
            self.function("ggml_backend_load_all", None)()  # builds that keep each backend in a library of its own
        get = self.function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
        return [get(index) for index in range(count())]
