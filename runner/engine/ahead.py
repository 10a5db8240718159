"""Reading ahead: while a person reads an answer, the engine reads how their next prompt will begin."""

from __future__ import annotations

from collections import deque

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner.engine.held import Held
from nemotron_gguf.runner.engine.sequences import Sequences
from nemotron_gguf.runner.engine.turns import turn_ends, worth_keeping
from nemotron_gguf.runner.engine.vocabulary import Vocabulary
from nemotron_gguf.runner.process.memory_messages import Anticipate

PART = 64  # tokens read at a time: a request that comes meanwhile waits no longer, and no clock has a say in the sizes
MOST = 64  # conversations that may wait for it; the longest waiting is left out


class _Beginning:
    """The beginning of a prompt, and how far it has been read."""

    def __init__(self, task: Anticipate, vocabulary: Vocabulary) -> None:
        self.after = task.after
        self.tokens = vocabulary.tokenize(task.prompt, task.cuts)
        self.ends = turn_ends(self.tokens, vocabulary)
        self.plan: list[int] | None = None  # places to keep a checkpoint at, once it is begun


class Ahead:
    """Beginnings of prompts to be read when there is nothing else to do."""

    def __init__(self, sequences: Sequences, vocabulary: Vocabulary) -> None:
        self.sequences, self.vocabulary = sequences, vocabulary
        self._tasks: deque[Anticipate] = deque(maxlen=MOST)
        self._begun: _Beginning | None = None

    def __len__(self) -> int:
        return len(self._tasks) + (self._begun is not None)

    def add(self, task: Anticipate) -> None:
        """One more."""
        self._tasks.append(task)

    def clear(self) -> None:
        """Leave it all out."""
        self._tasks.clear()
        self._begun = None

    def step(self) -> None:
        """Read a part of one, in so short a time that a request which comes meanwhile need not wait long."""
        if self._begun is None:
            self._begun = _Beginning(self._tasks.popleft(), self.vocabulary)
        try:
            if not self._go_on(self._begun):
                self._begun = None
        except NemotronError:  # it was for nothing, and nobody waits for it
            self._begun = None

    def _go_on(self, beginning: _Beginning) -> bool:
        """Whether anything of it is left to be read."""
        held = next((one for one in self.sequences.all if one.task == beginning.after and not one.busy), None)
        tokens, context = beginning.tokens, self.sequences.context
        if held is None or len(tokens) >= context.size:
            return False
        if beginning.plan is None:
            reach = self.sequences.rewind(held, tokens)
            beginning.plan = [*worth_keeping(beginning.ends, reach, len(tokens)), len(tokens)]
            return reach < len(tokens)
        done = len(held.tokens)
        stop = next((place for place in beginning.plan if place > done), len(tokens))
        part = tokens[done : min(done + PART, stop)]
        if not part or not self.sequences.make_room(len(part), held):
            return False
        self._read(held, part, done, beginning)
        return len(held.tokens) < len(tokens)

    def _read(self, held: Held, part: list[int], done: int, beginning: _Beginning) -> None:
        try:
            self.sequences.context.read(held.number, part, done, wanted=False)
        except Exception:
            self.sequences.forget(held)
            raise
        self.sequences.read(held, part)
        if len(held.tokens) in (beginning.plan or ()):
            self.sequences.mark(held)
        if len(held.tokens) == len(beginning.tokens):
            self.sequences.note_turns(held, beginning.ends)
