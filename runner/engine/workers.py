"""RPC workers: machines whose devices llama.cpp uses over the network.

ggml ends the process where a worker does not answer, or speaks another version, and waits for ever for one that is busy
with somebody else (ggml/src/ggml-rpc). So each is greeted from here first, with a limit of time.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from nemotron_gguf.runner.engine.ggml import Ggml
from nemotron_gguf.runner.errors import RunnerError

_HELLO, _CAPABILITIES = 14, 24  # RPC_CMD_HELLO, and bytes of its request (ggml-rpc.cpp, transport.h)
_ANSWER = struct.Struct(f"<Q4B{_CAPABILITIES}x")  # its size, major, minor, patch, padding (rpc_msg_hello_rsp)
PROTOCOLS = {"0.3.36": (7, 0)}
"""RPC_PROTO_MAJOR_VERSION and …_MINOR_VERSION (ggml-rpc.h), by llama-cpp-python's version; others are unknown."""
_PATIENCE = 5.0  # seconds
_MAX_WORKERS = 16  # GGML_RPC_MAX_SERVERS (ggml-rpc.h)


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises RunnerError for anything else."""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or ":" in host:
        raise RunnerError(f"--rpc: {endpoint!r} is no worker's address, expected HOST:PORT such as 192.168.1.5:50052")
    return host, int(port)


def greet(endpoint: str) -> None:
    """Whether a worker of our protocol answers at HOST:PORT. Raises RunnerError, in one sentence, where none does."""
    host, port = split_endpoint(endpoint)
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
            connection.sendall(struct.pack("<BQ", _HELLO, _CAPABILITIES) + bytes(_CAPABILITIES))
            answer = _received(connection, _ANSWER.size)
    except TimeoutError as error:
        raise RunnerError(
            f"the RPC worker at {endpoint} does not answer; it serves one program at a time: end the other, or start it"
            " again"
        ) from error
    except OSError as error:
        raise RunnerError(
            f"no RPC worker answers at {endpoint} ({error.strerror or error}); start llama.cpp's rpc-server there"
        ) from error
    size, major, minor, patch, _ = _ANSWER.unpack(answer) if len(answer) == _ANSWER.size else (0, 0, 0, 0, 0)
    if size != _ANSWER.size - 8:
        raise RunnerError(
            f"what answers at {endpoint} is no RPC worker of this llama.cpp's version; build both from one version"
        )
    ours = PROTOCOLS.get(version("llama-cpp-python").partition("+")[0], (major, minor))
    if major != ours[0] or minor > ours[1]:  # as the library itself has it, which would end the process
        raise RunnerError(
            f"the RPC worker at {endpoint} speaks version {major}.{minor}.{patch}, expected {ours[0]}.{ours[1]}; build"
            " both from one version of llama.cpp"
        )


def _received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or what came until the other end closed. Raises TimeoutError where it takes too long in all."""
    found, end = b"", time.monotonic() + _PATIENCE
    while len(found) < count:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        part = connection.recv(count - len(found))
        if not part:
            break
        found += part
    return found


def add_workers(llama: Any, endpoints: Sequence[str]) -> None:
    """Make the devices of RPC workers known to ggml; one that is known already is not added twice.

    Raises RunnerError for a worker that does not answer, and where llama.cpp was built without RPC.
    """
    if not endpoints:
        return
    if len(endpoints) > _MAX_WORKERS or len(set(endpoints)) < len(endpoints):
        raise RunnerError(f"--rpc: {len(endpoints)} workers, expected up to {_MAX_WORKERS}, each named once")
    ggml = Ggml(llama)
    for endpoint in endpoints:
        greet(endpoint)
        registry = _add_server(ggml)(endpoint.encode())
        if not registry:
            raise RunnerError(f"the RPC worker at {endpoint} offers no devices; start it again")
        ggml.function("ggml_backend_register", None, ctypes.c_void_p)(registry)


def _add_server(ggml: Ggml) -> Any:
    """ggml's function that takes an address and gives a registry of devices."""
    backend = ggml.function("ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)(b"RPC")
    if not backend:
        raise RunnerError(
            "this llama.cpp was built without RPC, so it knows no workers; build it again:"
            " `CMAKE_ARGS=-DGGML_RPC=on python -m nemotron_gguf.runner.build_llama`"
        )
    find = ggml.function("ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(find(backend, b"ggml_backend_rpc_add_server"))
