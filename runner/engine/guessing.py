"""Tokens that are guessed from the text, and computed beside the one that was drawn, where that is worth while."""

from __future__ import annotations

from collections.abc import Iterator

from nemotron_gguf.runner.engine.answering import Answering, Events
from nemotron_gguf.runner.engine.context import Context
from nemotron_gguf.runner.engine.lookup import NOTHING, SIZES, Guess
from nemotron_gguf.runner.engine.sequences import Sequences

WORTH = 1.05  # times as many tokens a second, at least, as without
FIRST, RAREST = 4, 256  # chances that pass between two trials while it is not worth while; twice as many after each
_LATEST = 0.25  # weight of the latest measurement
_HOPE = 0.75  # of a guess that none like it was made before


class Worth:
    """Learns from each computation, and from what became of each guess.

    What a guess is worth depends on the text, how many tokens before it were the same, and what more tokens cost at a
    time on this machine: next to nothing on a GPU that waits for its memory, most of a token each where the processor
    computes.
    """

    def __init__(self, most: int) -> None:
        """`most`: tokens that can be guessed at a time."""
        self.most = most
        self.right = dict.fromkeys(SIZES, _HOPE)  # share of guessed tokens that were right, by those before them
        self.seconds: list[float | None] = [None] * (most + 1)  # of a computation with so many guesses
        self.after = 0.0  # seconds more for the one after it, for which libllama plans anew
        self._before = 0  # guesses in the last computation
        self._seen = [False] * (most + 1)
        self._passed, self._until = 0, FIRST

    def length(self, size: int, most: int) -> int:
        """How many tokens to guess, where `size` of those before were the same: 0 for none."""
        best = self._best(size, min(most, self.most))
        if best or most < 1:
            return best
        self._passed += 1
        if self._passed < self._until:
            return 0
        self._passed, self._until = 0, min(2 * self._until, RAREST)
        return min(most, self.most)

    def _best(self, size: int, most: int) -> int:
        """The number of guesses by which most comes out in a second."""
        alone = self.seconds[0]
        if alone is None:
            return 0
        right, expected, share = self.right[size], 1.0, 1.0
        best, rate = 0, WORTH / alone
        for count in range(1, most + 1):
            share *= right
            expected += share
            taken = (self.seconds[count] or alone) + max(self.after, 0)  # what was never tried may cost nothing
            if expected / taken > rate:
                best, rate = count, expected / taken
        return best

    def computed(self, guesses: int, seconds: float) -> None:
        """A computation with so many guesses took so long; the first of a kind, still to be prepared, says little."""
        before, self._before = self._before, guesses
        if not self._seen[guesses]:
            self._seen[guesses] = True
        elif before and not guesses and self.seconds[0] is not None:
            self.after += _LATEST * (seconds - self.seconds[0] - self.after)
        else:
            last = self.seconds[guesses]
            self.seconds[guesses] = seconds if last is None else last + _LATEST * (seconds - last)

    def turned_out(self, size: int, guesses: int, right: int) -> None:
        """So many of the guesses were right."""
        wrong = right < guesses  # nobody knows about those behind the first wrong one
        share = right / (right + wrong)
        self.right[size] += _LATEST * (share - self.right[size])
        if right:
            self._until = FIRST


class Guessing:
    """Guesses for an answer that has the context to itself."""

    def __init__(self, context: Context, sequences: Sequences) -> None:
        self.context, self.sequences = context, sequences
        self.worth = Worth(context.lookup)

    def behind(self, answer: Answering) -> Guess:
        """What may come behind the token that was drawn last."""
        most = min(self.context.lookup, self.sequences.free_cells - 1, answer.left - 1)
        if most < 1 or answer.held is None:
            return NOTHING
        guess = answer.lookup.guess(answer.held.tokens, answer.pending[0], most)
        return Guess(guess.tokens[: self.worth.length(guess.size, most)], guess.size) if guess.size else NOTHING

    def computed(self, guess: Guess, seconds: float) -> None:
        """A computation with this guess, or without any, took so long."""
        self.worth.computed(len(guess.tokens), seconds)

    def draws(self, answer: Answering, row: int, guess: Guess) -> Iterator[Events]:
        """The next token, from a row of the last computation; and those behind it for as long as the guess is right.

        What is in memory of the rest is taken back, whatever happens.
        """
        if not guess.tokens:
            yield answer.draw(row)
            return
        held, right = answer.held, 0
        assert held is not None
        try:
            yield answer.draw(row)
            while right < len(guess.tokens) and not answer.reason and answer.pending == [guess.tokens[right]]:
                self.sequences.read(held, answer.pending)
                right += 1
                yield answer.draw(row + right)
        finally:
            if right < len(guess.tokens):
                self.context.cut(held.number, len(held.tokens))
            answer.guessed, answer.right = answer.guessed + len(guess.tokens), answer.right + right
        self.worth.turned_out(guess.size, len(guess.tokens), right)
