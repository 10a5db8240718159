"""Answers belong to the server: each is written by a thread of its own, kept as it grows, and followed by any tab."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner import (
    Answer,
    Begun,
    Done,
    EngineBusyError,
    PromptProgress,
    Reasoning,
    TurnsDropped,
)
from nemotron_gguf.ui.chat.errors import AnsweringError, StoreError
from nemotron_gguf.ui.chat.presets import sampling_of
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import Facts, Message, Wishes, for_model

if TYPE_CHECKING:
    from nemotron_gguf.runner import AnyEvent, ChatModel

SAVED_EVERY = 1.0  # seconds: so much of an answer can be lost with the program
HEARTBEAT = 3.0  # seconds between two signs of life of an answer that does not grow

Phase: TypeAlias = Literal["waiting", "reading", "thinking", "answering", "over"]


@dataclass
class Progress:
    """How an answer stands, for whoever looks: written by its own thread alone; `version` grows with every change."""

    message: Message
    phase: Phase = "waiting"
    version: int = 0
    read: tuple[int, int] = (0, 0)
    n_dropped: int = 0
    error: NemotronError | Exception | None = None
    started: float = field(default_factory=time.monotonic)
    thinking_since: float = 0.0
    first_at: float = 0.0
    n_pieces: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.phase == "over"


class Generation:
    """An answer under way. `message` stands in the store already; with `begun` it goes on from what it says."""

    def __init__(
        self, model: ChatModel, store: Store, path: Sequence[Message], message: Message, wishes: Wishes
    ) -> None:
        self.store, self.progress = store, Progress(message)
        self.begun = Begun(message.reasoning, message.content)
        self.base = message.facts
        self.talk = model.conversation(
            system=wishes.system or None, thinking=wishes.thinking, budget=wishes.budget if wishes.thinking else None
        )
        self.talk.messages = for_model(path)
        self.sampling = sampling_of(wishes, model.setup.sampling)
        self.max_tokens = wishes.max_tokens
        self.is_stopped = threading.Event()
        self._over = threading.Event()

    def start(self, when_over: Callable[[], object]) -> None:
        """Begin; `when_over` is called once it has ended and is kept."""
        threading.Thread(target=self._run, args=(when_over,), daemon=True, name="answer").start()

    def stop(self) -> None:
        """End it; what was said so far stays."""
        self.is_stopped.set()
        self.talk.stop()

    def stop_thinking(self) -> None:
        """Close its reasoning; the answer follows."""
        self.talk.stop_thinking()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is over and kept; whether it is."""
        return self._over.wait(seconds)

    def _run(self, when_over: Callable[[], object]) -> None:
        ended = threading.Event()
        saver = threading.Thread(target=self._save_meanwhile, args=(ended,), daemon=True, name="answer-saver")
        saver.start()
        try:
            for event in self.talk.reply(sampling=self.sampling, max_tokens=self.max_tokens, begun=self.begun or None):
                self._take(event)
        except Exception as error:
            self.progress.error = error
        ended.set()
        saver.join()
        self._settle()
        when_over()
        self.progress.phase = "over"
        self.progress.version += 1
        self._over.set()

    def _take(self, event: AnyEvent) -> None:
        progress, now = self.progress, time.monotonic()
        if isinstance(event, Reasoning | Answer):
            progress.first_at = progress.first_at or now
            progress.n_pieces += 1
        if isinstance(event, Reasoning):
            progress.thinking_since = progress.thinking_since or now
            self._set(reasoning=progress.message.reasoning + event.text, facts=self._facts(now, thinking=True))
            progress.phase = "thinking"
        elif isinstance(event, Answer):
            self._set(content=progress.message.content + event.text, facts=self._facts(now))
            progress.phase = "answering"
        elif isinstance(event, PromptProgress):
            progress.read, progress.phase = (event.done, event.total), "reading"
        elif isinstance(event, TurnsDropped):
            progress.n_dropped += event.count
        elif isinstance(event, Done):
            self._finish(event, now)
        progress.version += 1

    def _set(self, **changes: object) -> None:
        self.progress.message = msgspec.structs.replace(self.progress.message, **changes)

    def _facts(self, now: float, *, thinking: bool = False) -> Facts:
        """What it took so far; until the engine has counted, a piece is taken for a token."""
        progress, facts = self.progress, self.progress.message.facts
        spent = now - (progress.first_at or now)
        if thinking:
            facts = msgspec.structs.replace(
                facts,
                thought_seconds=self.base.thought_seconds + now - progress.thinking_since,
                thought_tokens=self.base.thought_tokens + progress.n_pieces,
            )
        return msgspec.structs.replace(
            facts,
            seconds=self.base.seconds + now - progress.started,
            tokens=self.base.tokens + progress.n_pieces,
            first_seconds=self.base.first_seconds or (progress.first_at or now) - progress.started,
            per_second=(progress.n_pieces - 1) / spent if spent > 0 else 0.0,
        )

    def _finish(self, done: Done, now: float) -> None:
        """The engine's own figures, and how it ended."""
        usage, timings = done.usage, done.timings
        facts = msgspec.structs.replace(
            self._facts(now),
            thought_tokens=self.base.thought_tokens + usage.reasoning_tokens,
            tokens=self.base.tokens + usage.completion_tokens,
            per_second=timings.generated_per_second,
            context_used=done.context_used,
            context_size=done.context_size,
        )
        state = {"length": "cut", "cancelled": "stopped"}.get(done.finish_reason, "whole")
        self._set(facts=facts, state=state)

    def _save_meanwhile(self, ended: threading.Event) -> None:
        """Keep what was said, about once a second."""
        saved, at = -1, 0.0
        while not ended.wait(SAVED_EVERY):
            if self.progress.version != saved or time.monotonic() - at > HEARTBEAT:
                saved, at = self.progress.version, time.monotonic()
                try:
                    self.store.write(self.progress.message)
                except StoreError as error:  # a full disk: the answer itself goes on
                    self.progress.error = error

    def _settle(self) -> None:
        """Keep its end. Where nothing was said, it is as if it had not begun."""
        message = self.progress.message
        if message.state == "growing":  # it failed
            self._set(state="stopped" if self.is_stopped.is_set() else "cut")
        try:
            self.store.write(self.progress.message)
        except StoreError as error:
            self.progress.error = error


class Generations:
    """The answers under way, one a conversation."""

    def __init__(self, model: ChatModel, store: Store) -> None:
        self.model, self.store = model, store
        self._lock = threading.Lock()
        self._live: dict[str, Generation] = {}

    def of(self, conversation: str) -> Generation | None:
        """The answer under way in a conversation."""
        return self._live.get(conversation)

    def live(self) -> list[str]:
        """The conversations that are being answered."""
        return list(self._live)

    def answer(self, conversation: str, parent: str) -> Generation:
        """Answer the message `parent`, beside the answers that it has. Raises ChatError where one is being written."""
        return self._begin(conversation, parent, None)

    def go_on(self, conversation: str, message: str) -> Generation:
        """Go on with an answer that was cut or stopped. Raises ChatError where one is being written."""
        return self._begin(conversation, "", message)

    def stop(self, conversation: str) -> None:
        """End the answer of a conversation, if one is under way, and wait until it is kept."""
        if generation := self.of(conversation):
            generation.stop()
            generation.wait(10)

    def stop_all(self) -> None:
        """End all of them and wait until they are kept."""
        for conversation in self.live():
            self.stop(conversation)

    def _begin(self, conversation: str, parent: str, message: str | None) -> Generation:
        with self._lock:
            if conversation in self._live:
                raise AnsweringError("an answer is being written in this conversation; stop it, or wait for it")
            chat = self.store.chat(conversation)
            last = chat.message(message) if chat and message else None
            if chat is None or (message and last is None):
                raise StoreError("this conversation was deleted meanwhile; begin a new one")
            if last is None:
                last = self.store.add(conversation, Message("", parent, "assistant", state="growing"))
            else:
                last = msgspec.structs.replace(last, state="growing")
                self.store.write(last)
            path = chat.up_to(last.parent)
            generation = self._live[conversation] = Generation(self.model, self.store, path, last, chat.entry.wishes)
        generation.start(lambda: self._over(conversation, generation))
        return generation

    def _over(self, conversation: str, generation: Generation) -> None:
        message = generation.progress.message
        if not (message.content or message.reasoning or message.calls):
            try:
                self.store.remove(conversation, message)
            except StoreError as error:
                generation.progress.error = error
        with self._lock:
            self._live.pop(conversation, None)


def told(error: BaseException, words: Mapping[str, str]) -> str:
    """What is said of an error on the page."""
    if isinstance(error, EngineBusyError):
        return words["busy"]
    if isinstance(error, AnsweringError):
        return words["is_answering"]
    if isinstance(error, NemotronError):
        return str(error)
    return words["failed"].format(f"{type(error).__name__}: {error}")
