"""The messages about what conversations have in memory: read ahead, saved, put back, counted."""

from __future__ import annotations

from msgspec import Struct

from nemotron_gguf.runner.chat.literal import Prompt


class Anticipate(Struct, frozen=True, tag=True):
    """How the next prompt of the conversation will begin whose last answer was the task `after`; `cuts` as there.

    It is read once nothing else is to be done, in place of what that answer left in memory, unless that was used since.
    Nothing is sent for it.
    """

    after: int
    prompt: str
    cuts: tuple[int, ...] = ()


class SaveState(Struct, frozen=True, tag=True):
    """Write what is in memory of the conversation with that prompt to a file. Ends in `Saved`.

    `asked` is the prompt that its last answer was given to: without all of its turns it is another conversation.
    `identity` names the model, the types of its cache and the build: nothing else can use it.
    """

    path: bytes
    identity: str
    prompt: Prompt
    asked: Prompt
    replace: bool = False


class RestoreState(Struct, frozen=True, tag=True):
    """Put into memory what `SaveState` wrote for the same `identity`. Ends in `Restored`."""

    path: bytes
    identity: str


class AskOccupancy(Struct, frozen=True, tag=True):
    """What is in the engine's memory, and who waits? Ends in `Occupancy`."""


class Saved(Struct, frozen=True, tag=True):
    """A conversation's state is on the disk: so many tokens, in a file of so many bytes."""

    tokens: int
    nbytes: int


class Restored(Struct, frozen=True, tag=True):
    """A conversation's state is in memory again: so many tokens."""

    tokens: int


class Occupancy(Struct, frozen=True, tag=True):
    """How busy the engine is: answers that wait, are being read or given, and beginnings of prompts to be read ahead.

    `sequences` there are, of which `idle` are free for others; they hold `tokens` of `context_size`. Beside the context
    `kept_bytes` of `kept_limit` are taken by `checkpoints` and by `parked` conversations.
    """

    waiting: int
    reading: int
    answering: int
    ahead: int
    sequences: int
    idle: int
    tokens: int
    context_size: int
    checkpoints: int
    parked: int
    kept_bytes: int
    kept_limit: int
