"""Reading ahead and working, side by side: two pools of threads and a bounded number of chunks between them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from threading import Event
from typing import Generic, TypeVar

from nemotron_gguf.convert.writer.threads import Threads, end, take

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Raised inside a worker when the run is over for another reason."""


class Pipeline(Generic[Item, Loaded, Result]):
    """`read` an item by one of `readers` threads, then `work` on it by one of `workers`; to be run once."""

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
        self._results: SimpleQueue[tuple[Item, Result]] = SimpleQueue()
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()  # one for each result, or an error

    def run(self, items: Iterable[Item]) -> Generator[tuple[Item, Result], None, None]:
        """Yield results as they are finished, in any order; the first error of any thread ends all and is raised."""
        workers: Threads[tuple[Item, Loaded]] = Threads(self._work, self.workers)
        readers: Threads[Item] = Threads(lambda item: self._read(item, workers), self.readers)
        source, window, under_way = iter(items), self.readers + 2 * self.workers, 0
        try:
            while True:
                while under_way < window and (item := next(source, None)) is not None:
                    readers.put(item)
                    under_way += 1
                if under_way == 0:
                    return
                error = take(self._outcomes)
                if error is not None:
                    raise error
                yield self._results.get()
                under_way -= 1
        except BaseException:
            self.stop.set()
            raise
        finally:
            readers.close()  # one may hang in the network: it ends with its source, and writes nothing
            end(workers)

    def _read(self, item: Item, workers: Threads[tuple[Item, Loaded]]) -> None:
        try:
            workers.put((item, self.read(item)))
        except BaseException as error:
            self._outcomes.put(error)

    def _work(self, order: tuple[Item, Loaded]) -> None:
        item, loaded = order
        try:
            self._results.put((item, self.work(item, loaded, self.stop)))
        except BaseException as error:
            self._outcomes.put(error)
        else:
            self._outcomes.put(None)
