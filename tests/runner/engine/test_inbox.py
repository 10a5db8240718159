"""What is said about a task is kept as long as it is under way, and no longer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pytest

from nemotron_gguf.runner.engine import inbox
from nemotron_gguf.runner.engine.inbox import Inbox
from nemotron_gguf.runner.process.channel import Channel
from nemotron_gguf.runner.process.messages import Cancel, EndThinking, ListDevices, Reply, Request


class Front:
    """The other end of an inbox, in the same process."""

    def __init__(self) -> None:
        there, here = os.pipe(), os.pipe()
        self.files = [os.fdopen(there[0], "rb"), os.fdopen(here[1], "wb"), os.fdopen(here[0], "rb")]
        self.sink = os.fdopen(there[1], "wb")
        self.inbox = Inbox(Channel(cast(BinaryIO, self.files[0]), cast(BinaryIO, self.files[1]), Request))
        self.listener = next(thread for thread in threading.enumerate() if thread.name == "_listen")
        self.channel: Channel[Any] = Channel(cast(BinaryIO, self.files[2]), self.sink, Reply)
        self.number = 0

    def say(self, *words: Cancel | EndThinking) -> None:
        """Words about tasks, which have arrived when this returns."""
        for word in words:
            self.channel.send(Request(0, word))
        self.inbox.forget(self.task())

    def task(self) -> int:
        """The number of a task that has arrived."""
        self.number += 1
        self.channel.send(Request(self.number, ListDevices()))
        request = self.inbox.next()
        assert isinstance(request, Request)
        return request.number


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with pytest.MonkeyPatch.context() as patch:  # an inbox ends the process when nobody is there any more
        patch.setattr(os, "_exit", lambda _status: None)
        patch.setattr(inbox, "_watch_parent", lambda: None)
        front = Front()
        yield front
        front.sink.close()
        front.listener.join(5)


def test_words_about_a_task_that_is_over_are_dropped(front: Front) -> None:
    number = front.task()
    front.inbox.forget(number)
    front.say(Cancel(number), EndThinking(number), Cancel(99))
    assert (front.inbox.cancelled, front.inbox.thought_enough) == (set(), set())


def test_words_about_a_task_under_way_are_kept_until_it_ends(front: Front) -> None:
    number = front.task()
    front.say(Cancel(number), EndThinking(number))
    assert (front.inbox.cancelled, front.inbox.thought_enough) == ({number}, {number})
    front.inbox.forget(number)
    assert (front.inbox.cancelled, front.inbox.thought_enough) == (set(), set())
