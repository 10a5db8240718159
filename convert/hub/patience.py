"""How a network's failures are borne: waiting between tries, longer each time, until nothing has come for too long."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nemotron_gguf.convert.errors import ConvertError, Interrupted

T = TypeVar("T")

VARIABLE = "NEMOTRON_NETWORK_PATIENCE"


@dataclass(frozen=True)
class Patience:
    """Seconds: `budget` without a byte before giving up, `opening` the same before any weight is read.

    Waits double from `first` up to `longest`; a connection is `silent` for so long before it counts as lost, and one
    that brings less than `trickle` bytes in that time is given up for another.
    """

    budget: float = 300.0
    opening: float = 20.0
    first: float = 0.5
    longest: float = 30.0
    silent: float = 20.0
    trickle: int = 64 << 10

    @classmethod
    def from_environment(cls) -> Patience:
        """The default, or scaled to the seconds in `NEMOTRON_NETWORK_PATIENCE`."""
        text = os.environ.get(VARIABLE, "").strip()
        if not text:
            return cls()
        try:
            budget = float(text)
        except ValueError:
            budget = -1.0
        if not 0 <= budget <= 1e6:
            raise ConvertError(f"{VARIABLE} is {text[:40]!r}, expected seconds, such as 300")
        scale = min(1.0, budget / cls.budget)
        return cls(
            budget, min(budget, cls.opening), cls.first * scale, cls.longest * scale, max(1.0, cls.silent * scale)
        )


class Failed(Exception):  # noqa: N818 - never leaves this room
    """A try that failed. `wait` are the seconds that the server asks for.

    `stale` says that the address is no good any more; where none is, it has come to an `error`.
    """

    def __init__(
        self,
        reason: str,
        *,
        wait: float | None = None,
        error: type[ConvertError] = ConvertError,
        stale: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.error, self.stale = reason, wait, error, stale


class Lost(Interrupted):
    """Nothing came for too long, for a `reason` at last."""

    def __init__(self, what: str, seconds: float, reason: str) -> None:
        super().__init__(
            f"{what}: nothing came for {seconds:.0f} seconds, at last {reason}; check the network and run the same"
            " command again"
        )
        self.reason = reason


class Effort:
    """The tries at one piece of work, `what` in messages; `stop` ends the waiting of all who share it."""

    def __init__(self, what: str, patience: Patience, budget: float, stop: threading.Event) -> None:
        self._what, self._patience, self._budget, self._stop = what, patience, budget, stop
        self.progressed()

    def progressed(self) -> None:
        """Something came: the count and the time start anew."""
        self._failures = 0
        self._started = time.monotonic()
        self._granted = 0.0  # seconds that the server asked to wait: they are not held against it, within the budget

    def check(self) -> None:
        """Raise Interrupted where the work was called off."""
        if self._stop.is_set():
            raise Interrupted(f"reading {self._what} was called off")

    def persist(self, action: Callable[[], T]) -> T:
        """The result of an action that raises Failed where another try may do."""
        while True:
            self.check()
            try:
                return action()
            except Failed as failure:
                self.failed(failure)

    def failed(self, failure: Failed) -> None:
        """Wait until it is worth trying again; raises Lost where the time is up."""
        self._failures += 1
        delay = self._delay(failure)
        if time.monotonic() + delay > self._started + self._budget + self._granted:
            raise Lost(self._what, self._budget, failure.reason)
        self._stop.wait(delay)
        self.check()

    def pause(self, nth: int) -> None:
        """Wait as before the try after the `nth` failure (0: not at all), whatever was counted here."""
        self._stop.wait(self._wait(nth) if nth else 0.0)

    def _wait(self, nth: int) -> float:
        longest = min(self._patience.longest, self._patience.first * 2.0 ** min(nth - 1, 20))
        return longest * random.uniform(0.5, 1.0)  # many readers must not all come back in the same moment

    def _delay(self, failure: Failed) -> float:
        delay = self._wait(self._failures)
        if failure.wait is not None:
            asked = min(failure.wait, self._budget)
            self._granted = min(self._granted + asked, self._budget)
            delay = max(delay, asked)
        return delay
