"""An answer as it comes, for a thread that waits and for an event loop that must not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from queue import Empty
from threading import Event, Thread
from typing import Any, Self

from nemotron_gguf.runner.chat.literal import Prompt
from nemotron_gguf.runner.events import AnyEvent, Done
from nemotron_gguf.runner.process.engine_process import EngineProcess, Mailbox, as_error
from nemotron_gguf.runner.process.memory_messages import Anticipate
from nemotron_gguf.runner.process.messages import Cancel, EndThinking, Failed

POLL = 0.1  # seconds; so long may Ctrl-C wait where the system does not interrupt a waiting thread (Windows)


class AnswerStream:
    """Events, the last of which is `Done`; iterate with `for` or `async for`, once.

    Raises RunnerError where the answer fails, EngineDiedError where the engine's process dies. Who stops iterating
    closes it (`close`, or the end of a `with`), which cancels what is left.
    """

    def __init__(self, process: EngineProcess, number: int, replies: Mailbox) -> None:
        self._process, self._number, self._replies = process, number, replies
        self._over = False
        self._ahead: list[Any] = []  # received before anybody iterated

    def begin(self, cancelled: Event | None = None) -> Self:
        """Wait until the engine has begun with it; `cancelled` ends it meanwhile.

        Raises RunnerError where it refuses.
        """
        self._ahead.append(self._received(self._wait(cancelled)))
        return self

    def cancel(self) -> None:
        """End the answer, from any thread; its last events still come."""
        if not self._over:
            self._process.tell(Cancel(self._number))

    def end_thinking(self) -> None:
        """Close the reasoning now, from any thread; the answer follows."""
        if not self._over:
            self._process.tell(EndThinking(self._number))

    def anticipate(self, prompt: Prompt) -> None:
        """Let the engine read how the conversation's next prompt will begin, once nobody waits for anything else."""
        self._process.tell(Anticipate(self._number, prompt.text, prompt.cuts))

    def close(self) -> None:
        """Cancel what is left and wait for the engine to be free again."""
        self.cancel()
        while not self._over:
            self._received(self._replies.get(), quietly=True)

    async def aclose(self) -> None:
        """As `close`, for an event loop."""
        self.cancel()
        async for _ in self._events(quietly=True):
            pass

    def __iter__(self) -> Iterator[AnyEvent]:
        try:
            while self._ahead:
                yield self._ahead.pop(0)
            while not self._over:
                yield self._received(self._wait())
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        try:
            async for event in self._events():
                yield event
        finally:
            self.cancel()

    async def _events(self, *, quietly: bool = False) -> AsyncIterator[Any]:
        """What comes until the last; it waits without holding up the loop."""
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._replies.woken = lambda: loop.is_closed() or loop.call_soon_threadsafe(arrived.set)
        try:
            while self._ahead:
                yield self._ahead.pop(0)
            while not self._over:
                arrived.clear()
                try:
                    body = self._replies.get_nowait()
                except Empty:
                    await arrived.wait()
                    continue
                yield self._received(body, quietly=quietly)
        finally:
            self._replies.woken = None

    def _wait(self, cancelled: Event | None = None) -> Any:
        while True:
            if cancelled and cancelled.is_set():
                self.cancel()
                cancelled = None
            try:
                return self._replies.get(POLL)
            except Empty:
                continue

    def _received(self, body: Any, *, quietly: bool = False) -> Any:
        if isinstance(body, Done | Failed) or body is None:
            self._over = True
            self._process.forget(self._number)
            if not isinstance(body, Done) and not quietly:
                raise as_error(self._process, body)
        return body

    def __del__(self) -> None:
        """Nobody can read it any more: cancel it, from a thread that holds no lock."""
        if not self._over:
            with contextlib.suppress(RuntimeError):  # the interpreter may be leaving
                Thread(target=_abandon, args=(self._process, self._number), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _abandon(process: EngineProcess, number: int) -> None:
    """Nobody will hear what still comes."""
    process.tell(Cancel(number))
    process.forget(number)
