"""The engine's process: one thread that owns libllama, does what it is asked, and looks for new requests in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from nemotron_gguf.runner.engine.failures import failed
from nemotron_gguf.runner.engine.inbox import Inbox
from nemotron_gguf.runner.engine.library import devices, library, set_verbose
from nemotron_gguf.runner.engine.loaded import LoadedModel
from nemotron_gguf.runner.errors import EngineBusyError, RunnerError
from nemotron_gguf.runner.events import Done
from nemotron_gguf.runner.process.channel import Channel, ChannelClosed
from nemotron_gguf.runner.process.memory_messages import (
    Anticipate,
    AskOccupancy,
    Restored,
    RestoreState,
    Saved,
    SaveState,
)
from nemotron_gguf.runner.process.messages import (
    Devices,
    Failed,
    Generate,
    ListDevices,
    Load,
    Loaded,
    Loading,
    Measured,
    Measurement,
    Probe,
    Probed,
    ReadTexts,
    Reply,
    Request,
    TextTokens,
    Tokenize,
    Tokens,
)


def main() -> None:
    """Serve the front at the other end of stdin and stdout until it is gone."""
    for name in ("SIGINT", "SIGHUP"):  # Ctrl-C is for the front, which knows what shall end
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    channel = Channel(*_streams(), Request)
    try:
        Worker(channel).run()
    except ChannelClosed:
        os._exit(0)


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the front; whatever a library prints to stdout goes to stderr from now on."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return source, sink


class Worker:
    """Does what it is asked; answers, of which several may be under way, go on in steps between two requests."""

    def __init__(self, channel: Channel[Request]) -> None:
        self.channel = channel
        self.inbox = Inbox(channel)
        self.model: LoadedModel | None = None
        self.measuring: Measuring | None = None

    def run(self) -> None:
        """Until the front is gone, which raises ChannelClosed or ends the process."""
        while True:
            request = self.inbox.poll() if self._has_work else self.inbox.next()
            while request:
                if isinstance(request, Request):
                    self._begin(request)
                else:
                    request()
                request = self.inbox.poll()
            if self.measuring:
                self._measure(self.measuring)
            elif self.model:
                self.model.step()

    @property
    def _has_work(self) -> bool:
        return self.measuring is not None or (self.model is not None and self.model.has_work)

    def _begin(self, request: Request) -> None:
        """Do what takes no time, or begin with what does. What fails is the end of it alone."""
        number, is_over = request.number, True
        try:
            is_over = self._do(number, request.body)
        except ChannelClosed:
            raise
        except Exception as error:
            self._reply(number, failed(error))
        if is_over:
            self.inbox.forget(number)

    def _do(self, number: int, task: object) -> bool:
        """Whether it is done with that."""
        if isinstance(task, Generate):
            self._refuse_while(self.measuring is not None, "busy with a measurement")
            self._loaded().generate(number, task)
            return False
        if isinstance(task, Anticipate):
            if self.model:
                self.model.anticipate(task)
        elif isinstance(task, SaveState):
            self._loaded().saving.save(number, task)
            return False
        elif isinstance(task, RestoreState):
            self._loaded().saving.restore(number, task)
            return False
        elif isinstance(task, Measurement):
            self._begin_measuring(number, task)
            return False
        elif isinstance(task, Load):
            self._refuse_while(self._is_answering, "busy with an answer")
            self._load(number, task)
        else:
            self._reply(number, self._answered(task))
        return True

    def _answered(self, task: object) -> msgspec.Struct:
        """The reply to a question that can be answered at once."""
        if isinstance(task, ListDevices):
            return Devices(devices(task.rpc))
        if isinstance(task, Tokenize):
            return Tokens(tuple(self._loaded().vocabulary.tokenize(task.text, task.cuts)))
        if isinstance(task, AskOccupancy):
            return self._loaded().occupancy()
        self._refuse_while(self._is_answering, "busy with an answer")
        if isinstance(task, Probe):
            from nemotron_gguf.runner.engine.probe import probe

            return Probed(probe(library(), os.fsdecode(task.path), task.placement))
        assert isinstance(task, ReadTexts), task
        return _read(task)

    @property
    def _is_answering(self) -> bool:
        return self.measuring is not None or (self.model is not None and self.model.scheduler.is_active)

    def _refuse_while(self, is_busy: bool, why: str) -> None:
        if is_busy:
            raise EngineBusyError(f"the model is {why}; try again when that is finished")

    def _load(self, number: int, task: Load) -> None:
        if self.model:
            self.model.close()
            self.model = None
        set_verbose(task.verbose)

        def on_progress(share: float) -> bool:
            self._reply(number, Loading(share))
            return number not in self.inbox.cancelled

        path = os.fsdecode(task.path)
        self.model = LoadedModel(
            path, task.placement, on_progress, self.inbox, self._send, self.inbox.post, task.cache_ram, task.max_gap
        )
        vocabulary = self.model.vocabulary
        self._reply(number, Loaded(self.model.context.size, vocabulary.size, vocabulary.specials))

    def _loaded(self) -> LoadedModel:
        if self.model is None:
            raise RunnerError("no model is loaded; open one first")
        return self.model

    def _begin_measuring(self, number: int, task: Measurement) -> None:
        from nemotron_gguf.runner.engine.measuring import Job, measure

        self._refuse_while(self._is_answering, "busy with an answer")
        job = Job(lambda: number in self.inbox.cancelled, lambda body: self._reply(number, body))
        self.measuring = Measuring(number, measure(task, job))

    def _measure(self, measuring: Measuring) -> None:
        """Some chunks of a measurement."""
        try:
            for event in next(measuring.steps):
                self._send(measuring.number, event)
                if isinstance(event, Measured):
                    self._end_measuring(measuring)
        except ChannelClosed:
            raise
        except Exception as error:
            self._end_measuring(measuring)
            self._send(measuring.number, failed(error))

    def _end_measuring(self, measuring: Measuring) -> None:
        measuring.steps.close()
        self.measuring = None

    def _send(self, number: int, body: msgspec.Struct) -> None:
        """A piece of a reply; the last one ends the task."""
        if isinstance(body, Done | Measured | Saved | Restored | Failed):
            self.inbox.forget(number)
        self._reply(number, body)

    def _reply(self, number: int, body: msgspec.Struct) -> None:
        self.channel.send(Reply(number, body))  # type: ignore[arg-type]  # one of the union's, as each caller knows


@dataclass(frozen=True, slots=True)
class Measuring:
    """A measurement that is being made."""

    number: int
    steps: Generator[Sequence[msgspec.Struct], None, None]


def _read(task: ReadTexts) -> TextTokens:
    from nemotron_gguf.runner.engine.measuring import read_texts

    return read_texts(os.fsdecode(task.path), task.texts, task.special)
