"""The sequences of a context: what each has read, what of it a new prompt can go on from, and who has to make room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from nemotron_gguf.runner.engine.cells import Cells
from nemotron_gguf.runner.engine.checkpoints import Checkpoint, Parked, Store, alive
from nemotron_gguf.runner.engine.context import Context, State
from nemotron_gguf.runner.engine.held import Held, Start, common_length
from nemotron_gguf.runner.errors import RunnerError

WORTH_PARKING = 32  # tokens: fewer are read again as quickly as they are put back


class Sequences:
    """All sequences of a context, and what is parked beside it."""

    def __init__(self, context: Context, store: Store) -> None:
        self.context, self.store = context, store
        self.all = [Held(number) for number in range(context.n_sequences)]
        self.cells = Cells(context.n_sequences)
        self._clock = count(1)

    @property
    def free_cells(self) -> int:
        """Tokens for which there is room without anybody giving way."""
        return self.context.size - self.cells.taken

    def busy_cells(self) -> int:
        """Tokens of those sequences that cannot give way."""
        return self.cells.held_by(one.number for one in self.all if one.busy)

    def start_of(self, prompt: Sequence[int]) -> Start:
        """The best beginning for a prompt, whose last token is read in any case, for its probabilities."""
        wanted = prompt[: len(prompt) - 1]
        best = Start()
        sources: list[Held | Parked] = [*self._by_preference(), *self.store.parked()]
        for source in sources:
            found = self._start_in(source, wanted)
            if found.reach > best.reach:
                best = found
        return best

    def _by_preference(self) -> list[Held]:
        """Idle ones first, and of these the latest used."""
        return sorted(self.all, key=lambda one: (one.busy, -one.used))

    def _start_in(self, source: Held | Parked, wanted: Sequence[int]) -> Start:
        common = common_length(source.tokens, wanted)
        if common == len(source.tokens) or self.context.rolls_back:
            return Start(source, common, common)
        kept = alive(source.checkpoints, common)
        if not kept:
            return Start(source, common)
        self.store.touch(kept[-1])
        return Start(source, common, kept[-1].position, kept[-1].state)

    def take(self, prompt: Sequence[int]) -> tuple[Held, int] | None:
        """A sequence for a prompt, busy from now on, and how many of its tokens are in memory already.

        None where all are busy.
        """
        start = self.start_of(prompt)
        target = self._target(start)
        if target is None:
            return None
        try:
            if target is start.source:
                if self._is_another(target, start):
                    self._park(target)
                reach = self._cut(target, start)
            else:
                self._vacate(target)
                reach = self._copy(start, target)
        except RunnerError:  # libllama does not take back what was kept: then all of it is read again
            self.forget(target)
            reach = 0
        target.busy, target.used = True, next(self._clock)
        self._tidy()
        return target, reach

    def rewind(self, held: Held, prompt: Sequence[int]) -> int:
        """Bring an idle sequence back to the beginning that it has in common with a prompt; its length."""
        return self._cut(held, self._start_in(held, prompt))

    def _target(self, start: Start) -> Held | None:
        """The sequence to use: the one that goes on, else an empty one, else the longest unused."""
        idle = [one for one in self.all if not one.busy]
        source = start.source
        if isinstance(source, Held) and not source.busy and start.reach:
            if start.common >= source.turn or start.reach == len(source.tokens):
                return source
            if start.common >= source.opening and all(one.tokens for one in idle):
                return source
        empty = next((one for one in idle if not one.tokens), None)
        return empty or min(idle, key=lambda one: one.used, default=None)

    def _is_another(self, held: Held, start: Start) -> bool:
        """Whether a prompt begins another conversation than the one that a sequence holds."""
        return start.common < held.turn and start.common < held.opening

    def _vacate(self, held: Held) -> None:
        self._park(held)
        self.forget(held)

    def _park(self, held: Held) -> None:
        """Keep a copy of a sequence that has to make room, if it is worth it."""
        if len(held.tokens) < WORTH_PARKING or not self.store.limit:
            return
        if any(common_length(other.tokens, held.tokens) == len(held.tokens) for other in self._others(held)):
            return
        if not self.store.fits(self.context.state_size(held.number)):  # a copy takes time, and others wait
            return
        state = self.context.snapshot(held.number, partial=False)
        parked = Parked(list(held.tokens), state, list(held.checkpoints))
        if self.store.fits(parked.nbytes):
            self.store.keep(parked)

    def _others(self, held: Held) -> list[Held | Parked]:
        return [*(one for one in self.all if one is not held), *self.store.parked()]

    def _cut(self, held: Held, start: Start) -> int:
        """Bring a sequence back to where a prompt begins."""
        if not start.reach:
            self.forget(held)
            return 0
        if start.reach < len(held.tokens):
            self.back_to(held, start.reach, start.state)
        return start.reach

    def back_to(self, held: Held, position: int, state: State | None) -> None:
        """Forget what a sequence holds from a position on. Raises RunnerError, with nothing left of it."""
        try:
            if state is not None:
                self.context.restore(held.number, state, partial=True)
            self.context.cut(held.number, position)
        except RunnerError:
            self.forget(held)
            raise
        del held.tokens[position:]
        held.checkpoints = [one for one in held.checkpoints if one.position <= position]
        self.cells.cut(held.number, position)

    def _copy(self, start: Start, target: Held) -> int:
        """Let an empty sequence begin as another, or as one that was parked."""
        source, reach = start.source, start.reach
        if source is None or not reach:
            return 0
        if isinstance(source, Parked):
            return self._unpark(source, start, target)
        state = start.state
        if state is None and not self.context.rolls_back:  # a window's cells that two have in common are never freed
            state = self.context.snapshot(source.number, partial=True)
        self.context.share(source.number, target.number, reach)
        if state is not None:
            self.context.restore(target.number, state, partial=True)
        target.tokens = source.tokens[:reach]
        target.checkpoints = [one for one in source.checkpoints if one.position <= reach]
        self.cells.share(source.number, target.number, reach)
        return reach

    def _unpark(self, parked: Parked, start: Start, target: Held) -> int:
        """Put back what was parked; it takes room in the context again."""
        state, tokens, checkpoints = parked.state, parked.tokens, list(parked.checkpoints)
        assert state is not None
        self.store.touch(parked)
        if not self.make_room(len(tokens), target):  # which may have cost what was parked its place
            return 0
        self.store.drop(parked)
        try:
            self._put_back(target, Parked(tokens, state, checkpoints))
        except RunnerError:  # then all of it is read again
            return 0
        if start.reach < len(tokens):
            self.back_to(target, start.reach, start.state)
        return start.reach

    def _put_back(self, target: Held, kept: Parked) -> None:
        """All of a text into an empty sequence. Raises RunnerError, with nothing left of it."""
        assert kept.state is not None
        try:
            self.context.restore(target.number, kept.state, partial=False)
            if (found := self.context.length(target.number)) != len(kept.tokens):
                raise RunnerError(f"a sequence's memory is of {found} tokens, expected {len(kept.tokens)}")
        except RunnerError:
            self.forget(target)
            raise
        target.tokens, target.checkpoints = list(kept.tokens), list(kept.checkpoints)
        self.cells.add(target.number, len(kept.tokens))

    def adopt(self, kept: Parked) -> None:
        """Take in what was saved once. Raises RunnerError where libllama does not take it, or there is no place."""
        target = self._target(Start())
        if target is None:
            raise RunnerError("all sequences are being used for answers; restore the conversation when one is over")
        self._vacate(target)
        if not self.make_room(len(kept.tokens), target):
            raise RunnerError(f"there is no room for {len(kept.tokens)} tokens beside the answers under way; try later")
        self._put_back(target, kept)
        target.used = next(self._clock)
        for one in kept.checkpoints:
            if self.store.fits(one.nbytes):
                self.store.keep(one)

    def make_room(self, n_tokens: int, keep: Held | None = None) -> bool:
        """See that so many tokens more can be read; idle sequences give way, the longest unused first."""
        while self.free_cells < n_tokens:
            idle = [one for one in self.all if not one.busy and one is not keep and one.tokens]
            if not idle:
                return False
            self._vacate(min(idle, key=lambda one: one.used))
        return True

    def read(self, held: Held, tokens: Iterable[int]) -> None:
        """A sequence has read these."""
        before = len(held.tokens)
        held.tokens.extend(tokens)
        self.cells.add(held.number, len(held.tokens) - before)

    def mark(self, held: Held) -> None:
        """Keep a checkpoint at a sequence's end."""
        position = len(held.tokens)
        kept = alive(held.checkpoints, position)
        if self.context.rolls_back or (kept and kept[-1].position == position):
            return
        if not self.store.fits(kept[-1].nbytes if kept else 1):
            return
        checkpoint = Checkpoint(position, self.context.snapshot(held.number, partial=True))
        if self.store.fits(checkpoint.nbytes):
            held.checkpoints = [*kept, checkpoint]
            self.store.keep(checkpoint)

    def recover(self, held: Held) -> None:
        """After a computation that did not end: back to the last place that is known."""
        kept = alive(held.checkpoints, len(held.tokens))
        if self.context.rolls_back:
            self.back_to(held, len(held.tokens), None)
        elif kept:
            self.back_to(held, kept[-1].position, kept[-1].state)
        else:
            self.forget(held)

    def note_turns(self, held: Held, ends: Sequence[int]) -> None:
        """A sequence's text has these ends of turns: of the system's message, which others share, of the question …"""
        held.opening, held.turn = (ends[min(1, len(ends) - 1)], ends[-1]) if ends else (0, 0)

    def release(self, held: Held) -> None:
        """A sequence's answer is over; it is kept for what follows."""
        held.busy, held.used = False, next(self._clock)

    def forget(self, held: Held) -> None:
        """Empty a sequence."""
        self.context.forget(held.number)
        self.cells.cut(held.number, 0)
        held.tokens, held.checkpoints = [], []
        held.turn = held.opening = held.task = 0

    def clear(self) -> None:
        """Forget everything."""
        for held in self.all:
            self.forget(held)
            held.busy = False
        for copy in self.store:
            self.store.drop(copy)
        self.context.clear()

    def _tidy(self) -> None:
        self.store.retain([held.checkpoints for held in self.all])
