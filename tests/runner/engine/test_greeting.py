"""What answers at a worker's address: a worker of our version, one of another, or something else."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

import pytest

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.runner.engine import workers

MAJOR, MINOR = workers.PROTOCOLS[version("llama-cpp-python").partition("+")[0]]


def hello(major: int, minor: int, patch: int = 0, size: int = 28) -> bytes:
    return struct.pack("<Q4B24x", size, major, minor, patch, 0)


@contextmanager
def answering(*pieces: bytes) -> Iterator[str]:
    """A server that says this, piece by piece, to whoever asks; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize("pieces", [[hello(MAJOR, MINOR)], [hello(MAJOR, MINOR, 9)[:5], hello(MAJOR, MINOR, 9)[5:]]])
def test_a_worker_of_our_version_is_greeted(pieces: list[bytes]) -> None:
    with answering(*pieces) as endpoint:
        workers.greet(endpoint)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "is no RPC worker"),
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "is no RPC worker"),
        (hello(MAJOR, MINOR)[:20], "is no RPC worker"),
        (hello(MAJOR, MINOR, size=4), "is no RPC worker"),
        (hello(MAJOR - 1, 0, 3), rf"speaks version {MAJOR - 1}\.0\.3, expected {MAJOR}\.{MINOR}"),
        (hello(MAJOR, MINOR + 1), rf"speaks version {MAJOR}\.{MINOR + 1}\.0, expected"),
    ],
)
def test_others_are_refused_in_one_line(answer: bytes, said: str) -> None:
    with answering(answer) as endpoint, pytest.raises(RunnerError, match=said):
        workers.greet(endpoint)


def test_of_another_llama_cpp_only_the_form_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "version", lambda _name: "0.3.99+local")
    with answering(hello(MAJOR + 1, 0)) as endpoint:
        workers.greet(endpoint)


def test_one_that_says_too_little_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PATIENCE", 0.3)
    hold = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_drip, args=(server, hold.wait), daemon=True).start()
        with pytest.raises(RunnerError, match="does not answer"):
            workers.greet(f"127.0.0.1:{server.getsockname()[1]}")
        hold.set()


def _drip(server: socket.socket, wait: Callable[[float], bool]) -> None:
    """A byte now and then, for ever."""
    connection, _ = server.accept()
    with connection:
        try:
            while not wait(0.1):
                connection.sendall(b"\x1c")
        except OSError:
            return
