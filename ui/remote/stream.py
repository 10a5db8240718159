"""An answer that a server gives, as it comes: the counterpart of `runner.AnswerStream`."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue
from typing import Any, Self

import httpx

from nemotron_gguf.runner import AnyEvent, Done, RunnerError, ToolCall
from nemotron_gguf.runner.in_thread import in_thread
from nemotron_gguf.ui.remote.chunks import Chunks
from nemotron_gguf.ui.remote.failures import of_connection, of_status

LONGEST_LINE = 16 << 20  # bytes
EXTRAS = ("chat_template_kwargs", "thinking_budget_tokens", "top_k", "min_p", "repeat_penalty", "stream_options")
"""What is asked beyond the core of OpenAI's API."""
_ENOUGH = 64 << 10  # bytes of a refusal


class RemoteStream:
    """Events, the last of which is `Done`; iterate with `for` or `async for`, once.

    A thread reads what the server sends, so that `cancel`, which closes the connection, works at any time.
    Raises RunnerError where the server refuses, cannot be reached, or the answer is cut.
    """

    def __init__(self, client: httpx.Client, request: httpx.Request, chunks: Chunks, model: str) -> None:
        self._client, self._request, self._chunks, self._model = client, request, chunks, model
        self._events: SimpleQueue[AnyEvent | RunnerError] = SimpleQueue()
        self._begun = threading.Event()
        self._cancelled = threading.Event()
        self._connection: Any = None  # httpcore's stream, once there is one
        request.extensions["trace"] = self._trace
        self._over = False
        self._refused: RunnerError | None = None
        threading.Thread(target=self._read, name="remote-answer", daemon=True).start()

    def begin(self, cancelled: threading.Event | None = None) -> Self:
        """Wait until the server has begun. Raises RunnerError where it refuses."""
        while not self._begun.wait(0.05):
            if cancelled and cancelled.is_set():
                self.cancel()
                break
        if self._refused:
            self._over = True
            raise self._refused
        return self

    def cancel(self) -> None:
        """Close the connection, from any thread; Done still comes."""
        self._cancelled.set()
        self._shut()

    def end_thinking(self) -> None:
        """No server of this kind can be told to; the reasoning goes on."""

    def close(self) -> None:
        """Cancel what is left."""
        self.cancel()
        self._over = True

    async def aclose(self) -> None:
        """As `close`, for an event loop."""
        self.close()

    def __iter__(self) -> Iterator[AnyEvent]:
        try:
            while not self._over:
                yield self._next()
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        try:
            while not self._over:
                yield await in_thread(self._next, self._cancelled)
        finally:
            self.close()

    def _next(self) -> AnyEvent:
        event = self._events.get()
        if isinstance(event, RunnerError):
            self._over = True
            raise event
        self._over = isinstance(event, Done)
        return event

    def _read(self) -> None:
        """In a thread: the whole answer, from the request to the last event."""
        try:
            self._answer()
        except RunnerError as error:
            self._fail(error)
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, RuntimeError) as error:
            self._fail(of_connection(error, str(self._request.url)))
        finally:
            self._begun.set()

    def _fail(self, error: RunnerError) -> None:
        if self._cancelled.is_set():
            self._end_early()
        elif not self._begun.is_set():
            self._refused = error
            self._events.put(error)
        else:
            self._events.put(error)

    def _end_early(self) -> None:
        """Somebody cancelled it: what is left to say, without calls, which may be cut in the middle."""
        with contextlib.suppress(RunnerError):
            for event in self._chunks.rest():
                if not isinstance(event, ToolCall):
                    self._events.put(event)
        self._events.put(self._chunks.done(cancelled=True))

    def _trace(self, event: str, told: Any) -> None:
        """Note the connection, so that it can be closed while somebody waits for the server's first word."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connection = told["return_value"]
            if self._cancelled.is_set():
                self._shut()

    def _shut(self) -> None:
        """Close the connection under whoever reads from it."""
        found = self._connection.get_extra_info("socket") if self._connection else None
        with contextlib.suppress(OSError):
            if found:
                found.shutdown(socket.SHUT_RDWR)

    def _send(self) -> httpx.Response:
        """The server's answer; one that knows only what OpenAI's API has is asked again without the rest."""
        response = self._client.send(self._request, stream=True)
        if response.status_code not in (400, 422):
            return response
        refusal = b"".join(_first_bytes(response))
        response.close()
        wanted = json.loads(self._request.content)
        if not any(key in wanted and key.encode() in refusal for key in EXTRAS):
            raise of_status(response.status_code, refusal, str(self._request.url), self._model)
        plain = {key: value for key, value in wanted.items() if key not in EXTRAS}
        self._request = self._client.build_request("POST", self._request.url, json=plain)
        self._request.extensions["trace"] = self._trace
        return self._client.send(self._request, stream=True)

    def _answer(self) -> None:
        with self._client, contextlib.closing(self._send()) as response:
            if response.status_code != 200:
                body = b"".join(_first_bytes(response))
                raise of_status(response.status_code, body, str(self._request.url), self._model)
            self._begun.set()
            for data in _messages(response):
                for event in self._chunks.take(data):
                    self._events.put(event)
                if self._cancelled.is_set():
                    break
        if self._cancelled.is_set():
            self._end_early()
        elif not self._chunks.is_ended:
            raise RunnerError(f"{self._request.url} ended in the middle of the answer; see its log, and ask again")
        else:
            for event in self._chunks.rest():
                self._events.put(event)
            self._events.put(self._chunks.done(cancelled=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _messages(response: httpx.Response) -> Iterator[Any]:
    """The objects of a stream of server-sent events, or the one object of a server that does not stream.

    Raises RunnerError for what is neither.
    """
    streams = "text/event-stream" in response.headers.get("content-type", "")
    if not streams:
        yield _object(b"".join(response.iter_bytes()).decode("utf-8", "replace"))
        return
    for line in _lines(response):
        if line.startswith("data:"):
            data = line[5:].strip()
            if data == "[DONE]":
                return
            yield _object(data)


def _lines(response: httpx.Response) -> Iterator[str]:
    """Lines, of which none may grow without end; the cost of a piece does not depend on what came before."""
    held: list[bytes] = []
    size = 0
    for piece in response.iter_bytes():
        first, *more = piece.split(b"\n")
        for part in more:
            yield b"".join([*held, first]).decode("utf-8", "replace")
            held, size, first = [], 0, part
        held.append(first)
        size += len(first)
        if size > LONGEST_LINE:
            raise RunnerError("the server sent a line without an end; is it OpenAI's API?")
    if size:
        yield b"".join(held).decode("utf-8", "replace")


def _object(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunnerError(f"the server sent what is no JSON: {data[:80]!r}; is it OpenAI's API?") from error


def _first_bytes(response: httpx.Response) -> Iterator[bytes]:
    size = 0
    for piece in response.iter_bytes():
        yield piece
        size += len(piece)
        if size > _ENOUGH:
            return
