"""What the front says, taken in by a thread of its own, so that a word about an answer is heard in the midst of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.process.channel import BadMessage, Channel, ChannelClosed
from nemotron_gguf.runner.process.messages import Cancel, EndThinking, Failed, Reply, Request

Work: TypeAlias = Callable[[], None]


class Inbox:
    """Tasks in their order; the numbers of those that shall end, or think no longer."""

    def __init__(self, channel: Channel[Request]) -> None:
        self.channel = channel
        self.cancelled: set[int] = set()
        self.thought_enough: set[int] = set()
        self._open: set[int] = set()  # tasks that are not over: a word about another comes late, and is dropped
        self._lock = threading.Lock()  # of what is open
        self._tasks: SimpleQueue[Request | Work] = SimpleQueue()
        for task in (self._listen, _watch_parent):
            threading.Thread(target=task, name=task.__name__, daemon=True).start()

    def _listen(self) -> None:
        """Until the front is gone, by whatever death: then this process has nobody to work for."""
        try:
            while True:
                try:
                    request = self.channel.receive()
                except BadMessage as error:
                    why = f"the request was not understood ({error})"
                    self.channel.send(Reply(error.number, Failed(RunnerError.__name__, why)))
                    continue
                self._take(request)
        except ChannelClosed:
            os._exit(0)  # at once: the main thread may be deep in libllama

    def _take(self, request: Request) -> None:
        """A task, or a word about one that is open."""
        with self._lock:
            if not isinstance(request.body, Cancel | EndThinking):
                self._open.add(request.number)
                self._tasks.put(request)
            elif request.body.task in self._open:
                said = self.cancelled if isinstance(request.body, Cancel) else self.thought_enough
                said.add(request.body.task)

    def post(self, work: Work) -> None:
        """Something to be done by whoever does the tasks; for any thread."""
        self._tasks.put(work)

    def next(self) -> Request | Work:
        """Wait for a task, or for something else to do."""
        return self._tasks.get()

    def poll(self) -> Request | Work | None:
        """What has come, None where nothing has."""
        try:
            return self._tasks.get_nowait()
        except Empty:
            return None

    def forget(self, number: int) -> None:
        """A task is over."""
        with self._lock:
            for numbers in (self._open, self.cancelled, self.thought_enough):
                numbers.discard(number)


def _watch_parent() -> None:
    """Leave with the front also where a process that it forked holds the other end of the pipe open."""
    if not hasattr(os, "getppid") or os.name == "nt":  # Windows names a parent that is long gone
        return
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)
