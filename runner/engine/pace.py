"""How much of which prompts is read at a time, so that those who are being answered do not have to wait long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemotron_gguf.runner.engine.answering import Answering

GAP = 0.1  # seconds between two tokens of an answer while others' prompts are read, where the machine can do that
FEWEST = 8  # tokens: with fewer, most of the time would go into reading weights
TOGETHER = 128  # tokens of several prompts in one computation, so few that nobody need be able to stop it
_LATEST = 0.5  # weight of the latest measurement


class Pace:
    """Learns from each computation how long the next will take."""

    def __init__(self, most: int, gap: float = GAP) -> None:
        """`most`: tokens that can be read at a time."""
        self.most, self.gap = most, gap
        self.speed = 0.0  # tokens of a prompt a second
        self.step_seconds = 0.0  # for one token of each answer

    def count(self, *, beside_answers: bool) -> int:
        """Tokens to read now.

        Where nobody is being answered, always as many: sizes that a clock decides would change the last bits of what
        is computed, and with them an answer at temperature 0 from one run to the next.
        """
        if not beside_answers:
            return self.most
        if not self.speed:
            return min(FEWEST * 4, self.most)
        seconds = self.gap - self.step_seconds
        return max(min(int(self.speed * seconds), self.most), min(FEWEST, self.most))

    def read(self, count: int, seconds: float) -> None:
        """So many tokens of a prompt took so long; short parts, which end at a turn, say little."""
        if count < FEWEST or seconds <= 0:
            return
        speed = count / seconds
        # slower is believed at once, faster by and by
        self.speed = min(speed, self.speed + _LATEST * (speed - self.speed)) if self.speed else speed

    def stepped(self, seconds: float) -> None:
        """One token of each answer took so long."""
        self.step_seconds += _LATEST * (seconds - self.step_seconds)


def next_parts(reading: Sequence[Answering], most: int) -> list[tuple[Answering, list[int]]]:
    """The part of the prompt whose turn it is, and those of others that are as long, with at most `most` tokens in all.

    Prompts that come at the same time often end alike, with a few tokens behind their last turn, and a computation of
    few tokens takes about as long as one of many.
    """
    first, *others = sorted(reading, key=lambda one: one.last_read)
    parts = [(first, first.part(most))]
    length = len(parts[0][1])
    for other in [] if first.alone else [one for one in others if not one.alone]:
        if (len(parts) + 1) * length > min(most, TOGETHER):
            break
        if len(tokens := other.part(most)) == length:
            parts.append((other, tokens))
    return parts
