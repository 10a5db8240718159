"""How long a model may think: the tokens of its reasoning counted, and the bound at which the engine ends it."""

from __future__ import annotations

from collections import deque

SMALLEST_ANSWER, LARGEST_ANSWER = 256, 4096  # tokens that are kept free for the answer where there is room


def default_budget(room: int) -> int:
    """Tokens a model may think where nobody said how many: what leaves an answer its part of `room` tokens.

    A quarter is kept for the answer, at least 256 tokens and at most 4096, but never more than half of the room.

    >>> default_budget(16384), default_budget(400), default_budget(1)
    (12288, 200, 0)
    """
    answer = min(max(room // 4, SMALLEST_ANSWER), LARGEST_ANSWER)
    return room - min(answer, (room + 1) // 2)


class ThinkingCount:
    """Counts the tokens of a reasoning, without those that make up the marker at its end."""

    def __init__(self, end: str) -> None:
        """`end`: the marker, such as "</think>"."""
        self.end, self.count = end, 0
        self._last: deque[str] = deque(maxlen=len(end) + 1)  # every token of the marker has a character of it, or none

    def add(self, text: str, before: bool, after: bool) -> None:
        """A token was drawn; `before` and `after` it the stream was inside the reasoning, or not."""
        if not before:
            return
        self._last.append(text)
        self.count += 1
        if not after:
            self.count -= self._tokens_of_marker()

    def _tokens_of_marker(self) -> int:
        """How many of the last tokens have a part of the marker."""
        whole = "".join(self._last)
        begin = whole.rfind(self.end)
        if begin < 0:  # it ended in another way
            return 0
        place = 0
        for index, text in enumerate(self._last):
            place += len(text)
            if place > begin:
                return len(self._last) - index
        return 0
