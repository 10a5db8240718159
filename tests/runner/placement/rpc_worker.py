"""A stand-in for a GPU: llama.cpp's RPC server on this machine's processor, which says that it has so much memory.

    python rpc_worker.py PORT MEMORY SLACK

The library's own server reports all of the machine's memory. Here the processor's device, in this process alone, is
replaced by a copy whose memory function says what was asked for (`struct ggml_backend_device`,
ggml/src/ggml-backend-impl.h: a table of functions, the third of which is `get_memory`; the backend that is made from it
is told to whom it belongs), and RLIMIT_AS makes an allocation beyond MEMORY + SLACK bytes fail for real. SLACK is for
what is no buffer: a tensor on its way in, the graph, threads. Each buffer that comes and goes is written to stdout.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.engine.hardware import handle_of
from nemotron_gguf.runner.engine.library import library, listen

Memory = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t))
Start = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
KEPT: list[object] = []  # what C holds on to
GET_MEMORY, INIT_BACKEND, FIELDS = 2, 5, 17  # their places in the table; functions, registry and context


class Buffers(list[str]):
    """Passes on what the server says about buffers (with GGML_RPC_DEBUG set)."""

    def append(self, line: str) -> None:
        if line.startswith(("[alloc_buffer]", "[free_buffer]")):
            print(line.strip(), flush=True)


def limited(original: int, memory: int) -> ctypes.Array[ctypes.c_void_p]:
    """A copy of a device that has `memory` bytes."""
    table = (ctypes.c_void_p * FIELDS).from_buffer_copy((ctypes.c_void_p * FIELDS).from_address(original))

    def report(_device: int, free: ctypes._Pointer[ctypes.c_size_t], total: ctypes._Pointer[ctypes.c_size_t]) -> None:
        free[0] = total[0] = memory

    make = Start(table[INIT_BACKEND] or 0)

    def start(_device: int, params: bytes | None) -> int | None:
        backend = make(original, params)
        fields = ctypes.cast(backend, ctypes.POINTER(ctypes.c_void_p))
        place = next(index for index in range(64) if fields[index] == original)  # `device` in struct ggml_backend
        fields[place] = ctypes.addressof(table)
        return int(backend) if backend else None

    replaced = Memory(report), Start(start)
    KEPT.append((table, replaced, make))
    table[GET_MEMORY], table[INIT_BACKEND] = (ctypes.cast(function, ctypes.c_void_p) for function in replaced)
    return table


def serve(port: int, memory: int, slack: int) -> None:
    ggml = Ggml(library())
    device = limited(handle_of(ggml, "CPU"), memory)
    backend = ggml.function("ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)(b"RPC")
    find = ggml.function("ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    arguments = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p))
    start = ctypes.CFUNCTYPE(None, *arguments)(find(backend, b"ggml_backend_rpc_start_server"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + memory + slack,) * 2)
    with listen(Buffers()):
        start(f"127.0.0.1:{port}".encode(), None, 1, 1, (ctypes.c_void_p * 1)(ctypes.addressof(device)))


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
