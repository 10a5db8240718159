"""Threads beside the main one, which a signal cannot upset at any moment.

Ctrl-C raises an exception wherever the main thread happens to be: also right after it took one of the locks inside
`threading` or `concurrent.futures`, for which others then wait for ever. So the main thread and its helpers meet in
queues alone, which are written in C and give and take whole or not at all. Nobody waits for these threads when the
program ends, as it would for those of a ThreadPoolExecutor: one that reads may hang in a network for long.
"""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

WINK = 0.5  # seconds; Windows lets nothing interrupt a wait, so that Ctrl-C is seen between two

Order = TypeVar("Order")


class Threads(Generic[Order]):
    """Threads that take orders; `work` does one, and raises nothing."""

    def __init__(self, work: Callable[[Order], None], count: int) -> None:
        self._work, self._count = work, count
        self._orders: SimpleQueue[tuple[Order] | None] = SimpleQueue()
        self._ended: list[bool] = []
        self._ends: SimpleQueue[bool] = SimpleQueue()
        for _ in range(count):
            start_new_thread(self._go, ())

    def put(self, order: Order) -> None:
        """Have something done by the next thread that is free."""
        self._orders.put((order,))

    def close(self) -> None:
        """Forget the orders that nobody has taken, and let the threads end; may be called again."""
        with suppress(Empty):
            while True:
                self._orders.get_nowait()
        for _ in range(self._count):
            self._orders.put(None)

    def wait(self) -> None:
        """Return when all threads have ended, after `close`; may be called again where it was interrupted."""
        while len(self._ended) < self._count:
            take(self._ends)

    def _go(self) -> None:
        while (order := self._orders.get()) is not None:
            self._work(*order)
            del order  # it may be large, and the next may be long in coming
        self._ended.append(True)
        self._ends.put(True)


class Beside:
    """A thread for one thing at a time. Leaving the `with` waits for what is under way."""

    def __init__(self) -> None:
        self._threads: Threads[Callable[[], None]] = Threads(self._do, 1)
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        self._busy = False

    def start(self, what: Callable[[], None]) -> None:
        """Begin with something, after the last has been found finished."""
        assert not self._busy
        self._threads.put(what)
        self._busy = True

    def is_free(self) -> bool:
        """Whether nothing is under way any more; raises what that raised."""
        if self._busy:
            with suppress(Empty):
                self._note(self._outcomes.get_nowait())
        return not self._busy

    def finish(self) -> None:
        """Wait for what is under way; raises what that raised."""
        if self._busy:
            self._note(take(self._outcomes))

    def _note(self, error: BaseException | None) -> None:
        self._busy = False
        if error is not None:
            raise error

    def _do(self, what: Callable[[], None]) -> None:
        try:
            what()
        except BaseException as error:
            self._outcomes.put(error)
        else:
            self._outcomes.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._threads)


def end(threads: Threads[Order]) -> None:
    """Let threads end and wait for them, whatever comes between."""
    try:
        threads.close()
        threads.wait()
    except BaseException:  # a second Ctrl-C: even so, they write nothing any more when this returns
        threads.close()
        threads.wait()
        raise


def take(queue: SimpleQueue[Order]) -> Order:
    """The next of a queue, as soon as there is one."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=WINK)
