"""Reading ahead and working, side by side: two pools of threads and a bounded number of chunks between them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Raised inside a worker when the run is over for another reason."""


class Pipeline(Generic[Item, Loaded, Result]):
    """`read` an item by one of `readers` threads, then `work` on it by one of `workers`."""

    def __init__(
        self,
        read: Callable[[Item], Loaded],
        work: Callable[[Item, Loaded, Event], Result],
        readers: int,
        workers: int,
    ) -> None:
        self.read, self.work = read, work
        self.readers, self.workers = readers, workers
        self.stop = Event()

    def run(self, items: Iterable[Item]) -> Generator[tuple[Item, Result], None, None]:
        """Yield results as they are finished, in any order; the first error of any thread ends all and is raised."""
        readers = _Readers(self.read, self.readers)
        workers = ThreadPoolExecutor(self.workers, thread_name_prefix="encode")
        try:
            yield from self._run(iter(items), readers, workers)
        except BaseException:
            self.stop.set()
            raise
        finally:
            readers.close()
            try:
                workers.shutdown(wait=True, cancel_futures=True)
            except BaseException:  # a second Ctrl-C: even so, nobody may write any more when this returns
                workers.shutdown(wait=True)
                raise

    def _run(
        self, items: Iterator[Item], readers: _Readers[Item, Loaded], workers: ThreadPoolExecutor
    ) -> Iterator[tuple[Item, Result]]:
        reading: dict[Future[Loaded], Item] = {}
        working: dict[Future[Result], Item] = {}
        window = self.readers + 2 * self.workers
        more = True
        while more or reading or working:
            while more and len(reading) + len(working) < window:
                item = next(items, None)
                if item is None:
                    more = False
                else:
                    reading[readers.submit(item)] = item
            under_way: set[Future[Any]] = {*reading, *working}
            wait(under_way, return_when=FIRST_COMPLETED)
            for loaded in [future for future in reading if future.done()]:
                item = reading.pop(loaded)
                working[workers.submit(self.work, item, loaded.result(), self.stop)] = item
            for result in [future for future in working if future.done()]:
                yield working.pop(result), result.result()


class _Readers(Generic[Item, Loaded]):
    """Threads that read, and that the program does not wait for when it ends: one may hang in a network for long.

    They write nothing, so they can be left where they are; a ThreadPoolExecutor's threads are joined at the exit.
    """

    def __init__(self, read: Callable[[Item], Loaded], count: int) -> None:
        self._read = read
        self._orders: SimpleQueue[tuple[Future[Loaded], Item] | None] = SimpleQueue()
        self._threads = [Thread(target=self._go, name=f"read-{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: Item) -> Future[Loaded]:
        """Have an item read."""
        future: Future[Loaded] = Future()
        self._orders.put((future, item))
        return future

    def close(self) -> None:
        """Read nothing more, and wait for nobody."""
        with suppress(Empty):
            while True:
                self._orders.get_nowait()
        for _ in self._threads:
            self._orders.put(None)

    def _go(self) -> None:
        while (order := self._orders.get()) is not None:
            self._serve(*order)
            del order  # what was read is not held while the next is waited for

    def _serve(self, future: Future[Loaded], item: Item) -> None:
        try:
            loaded = self._read(item)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(loaded)
