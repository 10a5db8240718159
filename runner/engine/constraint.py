"""What an answer under way may still become: its grammar begins where the reasoning has ended."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.engine.matcher import NOWHERE, Matcher
from nemotron_gguf.runner.engine.spellings import Spellings
from nemotron_gguf.runner.engine.vocabulary import Vocabulary

Logits = npt.NDArray[np.float32]


class Constraint:
    """Follows one answer token by token: `allows` and `narrow` before one is drawn, `take` behind it."""

    def __init__(
        self, matcher: Matcher, spelled: Spellings, vocabulary: Vocabulary, marks: Iterable[str], begin: str, end: str
    ) -> None:
        """`marks`: texts that are written out where they are a token; `begin` and `end` are those of a reasoning."""
        self.matcher, self.spelled, self.vocabulary = matcher, spelled, vocabulary
        self.visible = vocabulary.single(marks)
        self.openers = vocabulary.single([begin]) if begin else frozenset()
        self.end = end.encode()
        self.state: int | None = matcher.start  # None within a reasoning
        self._tail = b""  # of the reasoning, what may be the beginning of its end
        self._refused: set[int] = set()  # within a reasoning: tokens that would end it with a wrong beginning

    def free(self) -> None:
        """A reasoning begins."""
        self.state, self._tail = None, b""

    def bind(self) -> None:
        """The reasoning was ended by others; the answer begins."""
        self.state = self.matcher.root
        self._refused.clear()

    @property
    def is_bound(self) -> bool:
        """Whether it is the grammar that says what may follow, and not a reasoning's end."""
        return self.state is not None

    @property
    def is_over(self) -> bool:
        """Whether the answer is whole and nothing can follow."""
        return self.state is not None and self.matcher.is_over(self.state)

    def allows(self, token: int) -> bool:
        """Whether a token may be next."""
        if self.vocabulary.is_end(token):
            return self.state is not None and self.matcher.is_whole(self.state)
        if self.state is None:
            rest = self._behind_end(token)
            return rest is None or self.matcher.run(self.matcher.root, rest) != NOWHERE
        if self._opens(token):
            return True
        text = self.vocabulary.piece(token)
        return bool(text) and self.matcher.run(self.state, text) != NOWHERE

    def narrow(self, logits: Logits, refused: int) -> Logits:
        """The same logits without tokens that cannot be next, which `refused` is one of."""
        if self.state is None:
            self._refused.add(refused)
            kept = logits.copy()
            kept[[*self._refused, *self.spelled.ends]] = -np.inf
            return kept
        kept = np.where(self.matcher.mask(self.state, self.spelled), logits, np.float32(-np.inf))
        if self.matcher.is_whole(self.state):
            kept[self.spelled.ends] = logits[self.spelled.ends]
        for token in self.openers if self._may_open else ():
            kept[token] = logits[token]
        return kept

    def take(self, token: int, thinking: bool) -> None:
        """A token that is allowed was drawn; the answer is within a reasoning behind it, or not."""
        if self.state is not None:
            if thinking:
                self.free()
            else:
                self.matcher, self.state = self.matcher.settled(self.matcher.run(self.state, self._piece(token)))
            return
        rest = self._behind_end(token)
        if thinking:
            self._tail = (self._tail + self._piece(token))[1 - len(self.end) :]
            self._refused.clear()
        else:
            self.bind()
            self.state = self.matcher.run(self.matcher.root, rest or b"")

    @property
    def _may_open(self) -> bool:
        return self.state == self.matcher.start and self.matcher.start != self.matcher.root

    def _opens(self, token: int) -> bool:
        return token in self.openers and self._may_open

    def _piece(self, token: int) -> bytes:
        return self.vocabulary.piece(token, token in self.visible)

    def _behind_end(self, token: int) -> bytes | None:
        """What a token would write behind the end of the reasoning; None where it does not end it."""
        before, mark, rest = (self._tail + self._piece(token)).partition(self.end) if self.end else (b"", b"", b"")
        del before
        return rest if mark else None
