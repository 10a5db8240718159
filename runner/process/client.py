"""Whoever needs the engine asks this: it starts the process, loads the model, and does both again after a death."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from nemotron_gguf.runner.chat.literal import Prompt
from nemotron_gguf.runner.chat.messages import clean
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.engine.pace import GAP
from nemotron_gguf.runner.errors import EngineDiedError, RunnerError
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.engine_process import EngineProcess, as_error
from nemotron_gguf.runner.process.memory_messages import (
    AskOccupancy,
    Occupancy,
    Restored,
    RestoreState,
    Saved,
    SaveState,
)
from nemotron_gguf.runner.process.messages import (
    Cancel,
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
    Task,
    TextTokens,
    Tokenize,
    Tokens,
)
from nemotron_gguf.runner.process.stream import POLL, AnswerStream

Result = TypeVar("Result", bound=msgspec.Struct)


class Client:
    """An engine for one model at a time; a context manager. For any thread."""

    def __init__(self, *, verbose: bool = False) -> None:
        """Start the engine's process, which takes a moment to be ready: ask when it is needed."""
        self.verbose = verbose
        self._lock = threading.RLock()  # of the process and what it has loaded
        self._process: EngineProcess | None = EngineProcess(verbose=verbose)
        self._load: Load | None = None  # what a fresh process shall load
        self._loading: Future[Loaded] | None = None  # by such a one, under way
        self._closed = False
        self.loaded: Loaded | None = None

    def devices(self, rpc: Sequence[str] = ()) -> tuple[Device, ...]:
        """The devices that ggml lists, with those of RPC workers.

        Raises RunnerError where libllama cannot be loaded, or a worker does not answer.
        """
        return self._ask(ListDevices(tuple(rpc)), Devices).devices

    def probe(self, path: Path, placement: Placement) -> Mapping[str, int] | None:
        """Bytes of compute buffers that a placement would need; None where it cannot be had, so does not fit."""
        try:
            return self._ask(Probe(os.fsencode(path), placement), Probed).compute
        except RunnerError:
            return None

    def load(
        self,
        path: Path,
        placement: Placement,
        on_progress: Callable[[float], object] | None = None,
        *,
        cache_ram: int = 0,
        max_gap: float = GAP,
    ) -> Loaded:
        """Load a file that has passed the preflight. `on_progress` is called with shares of 1.

        `cache_ram`: bytes for copies of conversations' states beside the context. `max_gap`: seconds between two tokens
        of an answer while others' prompts are read.

        Raises RunnerError where it cannot be loaded, EngineDiedError where libllama dies of it.
        """
        with self._lock:
            self._load = Load(os.fsencode(path), placement, self.verbose, cache_ram, max_gap)
            return self._load_again(on_progress)

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a rendered prompt."""
        self._ready()
        return self._ask(Tokenize(prompt.text, prompt.cuts), Tokens).ids

    def generate(self, task: Generate, cancelled: threading.Event | None = None) -> AnswerStream:
        """Begin an answer; `cancelled` ends it before its first event as well.

        Raises RunnerError where the engine refuses, or no process can be had that has the model.
        """
        try:
            return self._generate(task, cancelled)
        except EngineDiedError:  # it may have been dead already, without anybody having noticed
            return self._generate(task, cancelled)

    def _generate(self, task: Generate, cancelled: threading.Event | None) -> AnswerStream:
        process = self._ready(cancelled)
        number, replies = process.ask(task)
        return AnswerStream(process, number, replies).begin(cancelled)

    def save_state(self, task: SaveState) -> Saved:
        """Write a conversation's state. Raises RunnerError where nothing of it is in memory, or the disk refuses."""
        self._ready()
        return self._ask(task, Saved)

    def restore_state(self, task: RestoreState) -> Restored:
        """Put a conversation's state back. Raises RunnerError for a file that is damaged or of something else."""
        self._ready()
        return self._ask(task, Restored)

    def occupancy(self) -> Occupancy:
        """How busy the engine is, and what is in its memory."""
        self._ready()
        return self._ask(AskOccupancy(), Occupancy)

    def read_texts(self, path: Path, texts: Sequence[str], special: bool = False) -> TextTokens:
        """The tokens of texts to measure on, by the vocabulary of a file that has passed the preflight."""
        return self._ask(ReadTexts(os.fsencode(path), tuple(map(clean, texts)), special), TextTokens)

    def measure(self, task: Measurement) -> Iterator[Any]:
        """A measurement's replies as they come, the last one `Measured`; who stops iterating cancels it.

        Raises RunnerError where it cannot be made, EngineDiedError where libllama dies of it.
        """
        with self._lock:
            process = self._alive()
        number, replies = process.ask(task)
        body: Any = None
        try:
            while not isinstance(body, Measured):
                body = replies.get()
                if body is None or isinstance(body, Failed):
                    raise as_error(process, body)
                yield body
        finally:
            if not isinstance(body, Measured | Failed):
                process.tell(Cancel(number))
            process.forget(number)

    def close(self) -> None:
        """End the process; an answer under way ends with it."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process:
            process.close()

    def _ready(self, cancelled: threading.Event | None = None) -> EngineProcess:
        """A living process with the model loaded: a fresh one where the last has died.

        Loading goes on where `cancelled` ends the waiting. Raises RunnerError then, and where the model is closed.
        """
        with self._lock:
            process = self._alive()
            if self.loaded is not None or self._load is None:
                return process
            if self._loading is None or self._loading.done():
                self._loading = Future()
                threading.Thread(target=self._load_for, args=(self._loading,), name="engine-load", daemon=True).start()
            loading = self._loading
        while not wait([loading], POLL).done:
            if cancelled and cancelled.is_set():
                raise RunnerError("the answer was stopped while the engine, which had died, loads the model again")
        loading.result()
        return process

    def _load_for(self, waiting: Future[Loaded]) -> None:
        """Load for all who wait."""
        try:
            waiting.set_result(self._load_again(None))
        except BaseException as error:
            waiting.set_exception(error)

    def _alive(self) -> EngineProcess:
        if self._closed:
            raise RunnerError("the model has been closed; open it again")
        if self._process is None or self._process.ended:
            self.loaded = None
            self._process = EngineProcess(verbose=self.verbose)
        return self._process

    def _load_again(self, on_progress: Callable[[float], object] | None) -> Loaded:
        assert self._load is not None
        with self._lock:
            self.loaded = None
            self._alive().workers = self._load.placement.rpc
        loaded = self._ask(self._load, Loaded, on_progress)
        self.loaded = loaded
        return loaded

    def _ask(self, task: Task, expected: type[Result], on_progress: Callable[[float], object] | None = None) -> Result:
        """A task's result."""
        with self._lock:
            process = self._alive()
        number, replies = process.ask(task)
        try:
            while True:
                body: Any = replies.get()
                if isinstance(body, expected):
                    return body
                if isinstance(body, Loading):
                    if on_progress:
                        on_progress(body.share)
                    continue
                raise as_error(process, body)
        finally:
            process.forget(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
