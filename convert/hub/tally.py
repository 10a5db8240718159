"""What is told while files are fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FetchProgress:
    """Where a run stands: `phase` is checking (what an earlier run left), downloading or verifying; bytes.

    While downloading, `done` and `total` are of all files of the run, otherwise of the `file` in hand; `fetched` are
    those of `done` that came over the network in this run.
    """

    phase: str
    file: str
    done: int
    total: int
    fetched: int = 0


@dataclass(frozen=True)
class FetchOptions:
    """What is told meanwhile, from the calling thread: `report` often, `say` in sentences."""

    report: Callable[[FetchProgress], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None


class Tally:
    """Bytes of several files, for whoever waits."""

    def __init__(self, total: int, options: FetchOptions) -> None:
        self.done, self.fetched, self.total, self.options = 0, 0, total, options

    def add(self, count: int, file: str, fetched: bool = True) -> None:
        """Count bytes that have come, or that need not come any more."""
        self.done += count
        self.fetched += count if fetched else 0
        self.options.report(FetchProgress("downloading", file, self.done, max(self.total, self.done), self.fetched))

    def count(self, phase: str, file: str) -> Callable[[int, int], None]:
        """What to call with the bytes done and in all while a file is read back."""
        return lambda done, total: self.options.report(FetchProgress(phase, file, done, total))
