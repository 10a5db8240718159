"""Conversations to and from the disk, beside the answers: files are written and read by a thread of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from nemotron_gguf.runner.engine.checkpoints import Parked, alive
from nemotron_gguf.runner.engine.failures import failed
from nemotron_gguf.runner.engine.held import Held, common_length
from nemotron_gguf.runner.engine.sequences import Sequences
from nemotron_gguf.runner.engine.turns import turn_ends
from nemotron_gguf.runner.engine.vocabulary import Vocabulary
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.process.memory_messages import Restored, RestoreState, Saved, SaveState

Send: TypeAlias = Callable[[int, msgspec.Struct], object]
Post: TypeAlias = Callable[[Callable[[], None]], object]
"""Has something done by the thread that owns the context."""


class Saving:
    """Saves and restores; the replies are sent when it is done."""

    def __init__(self, sequences: Sequences, vocabulary: Vocabulary, send: Send, post: Post) -> None:
        self.sequences, self.vocabulary, self.send, self.post = sequences, vocabulary, send, post

    def save(self, number: int, task: SaveState) -> None:
        """Copy what is in memory of a conversation, and have it written. Raises RunnerError where nothing is."""
        from nemotron_gguf.runner.engine.state_file import write_state

        prompt, asked = (self.vocabulary.tokenize(one.text, one.cuts) for one in (task.prompt, task.asked))
        turns = turn_ends(asked, self.vocabulary)
        kept, path = self._copy(prompt, asked[: turns[-1] if turns else None]), Path(os.fsdecode(task.path))

        def write() -> None:
            size = write_state(path, task.identity, kept, replace=task.replace)
            self.send(number, Saved(len(kept.tokens), size))

        self._beside(number, write)

    def _copy(self, prompt: list[int], asked: list[int]) -> Parked:
        """The memory of the text that has most in common with a prompt, and all that was asked."""
        known: list[Held | Parked] = [one for one in self.sequences.all if not one.busy]
        known += self.sequences.store.parked()
        best = max(known, key=lambda one: common_length(one.tokens, prompt), default=None)
        if best is None or common_length(best.tokens, asked) < len(asked):
            raise RunnerError("nothing of this conversation is in memory, or it is being answered; save it later")
        checkpoints = alive(best.checkpoints, len(best.tokens))
        if isinstance(best, Parked):
            return Parked(best.tokens, best.state, checkpoints)
        return Parked(list(best.tokens), self.sequences.context.snapshot(best.number, partial=False), checkpoints)

    def restore(self, number: int, task: RestoreState) -> None:
        """Have a file read, and put into memory what it holds."""
        from nemotron_gguf.runner.engine.state_file import read_state

        path, limit = Path(os.fsdecode(task.path)), self.sequences.context.size - 1

        def read() -> None:
            kept = read_state(path, task.identity, limit, self.vocabulary.size)
            self.post(lambda: self._adopt(number, kept))

        self._beside(number, read)

    def _adopt(self, number: int, kept: Parked) -> None:
        try:
            self.sequences.adopt(kept)
        except Exception as error:
            self.send(number, failed(error))
        else:
            self.send(number, Restored(len(kept.tokens)))

    def _beside(self, number: int, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.send(number, failed(error))

        threading.Thread(target=run, name="state-file", daemon=True).start()
