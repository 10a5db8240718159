"""Reading ahead and working, side by side: two pools of threads and a bounded number of chunks between them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Event
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
        readers = ThreadPoolExecutor(self.readers, thread_name_prefix="read")
        workers = ThreadPoolExecutor(self.workers, thread_name_prefix="encode")
        try:
            yield from self._run(iter(items), readers, workers)
        except BaseException:
            self.stop.set()
            raise
        finally:
            # a reader may hang in the network: it ends with its source, and writes nothing
            readers.shutdown(wait=False, cancel_futures=True)
            workers.shutdown(wait=True, cancel_futures=True)

    def _run(
        self, items: Iterator[Item], readers: ThreadPoolExecutor, workers: ThreadPoolExecutor
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
                    reading[readers.submit(self.read, item)] = item
            under_way: set[Future[Any]] = {*reading, *working}
            wait(under_way, return_when=FIRST_COMPLETED)
            for loaded in [future for future in reading if future.done()]:
                item = reading.pop(loaded)
                working[workers.submit(self.work, item, loaded.result(), self.stop)] = item
            for result in [future for future in working if future.done()]:
                yield working.pop(result), result.result()
