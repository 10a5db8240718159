"""What may come next, guessed from the text itself: behind the same few tokens, it may go on as it did before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SIZES = (3, 2)  # tokens that have to be the same; the longer are asked first
REACH = 1 << 16  # tokens of a prompt, its latest, that are looked at: a dictionary's entries take a hundred bytes each


class Guess(NamedTuple):
    """Tokens that followed once, and how many before them were the same."""

    tokens: list[int]
    size: int


NOTHING = Guess([], 0)


class Lookup:
    """An index of a text that only grows; the work for a token is always the same.

    >>> text = [1, 2, 3, 4, 5, 9, 1, 2]
    >>> Lookup().guess(text, 3, 2)
    Guess(tokens=[4, 5], size=3)
    >>> Lookup().guess(text, 5, 2)
    Guess(tokens=[], size=0)
    """

    def __init__(self) -> None:
        self._behind: list[dict[tuple[int, ...], int]] = [{} for _ in SIZES]  # the place after the latest of each
        self._known = 0  # tokens of the text that are in the index

    def guess(self, text: Sequence[int], last: int, most: int) -> Guess:
        """At most so many tokens for what comes behind `text` and then `last`; `text` is the one before, or longer."""
        self._follow(text)
        for size, behind in zip(SIZES, self._behind, strict=True):
            if len(text) >= size - 1 and (place := behind.get((*text[len(text) - size + 1 :], last))):
                known = [*text[place : place + most], last][:most]
                return Guess((known * most)[:most], size)  # what is as long as it is far from the end goes round
        return NOTHING

    def _follow(self, text: Sequence[int]) -> None:
        """Take in what is new."""
        begin = max(self._known, len(text) - REACH)
        for size, behind in zip(SIZES, self._behind, strict=True):
            for place in range(max(begin, size - 1), len(text)):
                behind[tuple(text[place - size + 1 : place + 1])] = place + 1
        self._known = len(text)
