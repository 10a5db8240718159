"""A bound on the work that one grammar may cost, counted in small steps, so that it is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nemotron_gguf.runner.errors import GrammarError

_left: ContextVar[list[int] | None] = ContextVar("steps left", default=None)


@contextmanager
def effort(steps: int, what: str) -> Iterator[None]:
    """Inside of it, more than so many steps raise GrammarError, which says what took too much."""
    before = _left.set([steps])
    try:
        yield
    except _TooMuchError:
        raise GrammarError(
            f"{what} takes too much work; make it simpler, or its repetitions and lengths smaller"
        ) from None
    finally:
        _left.reset(before)


def spend(steps: int) -> None:
    """So many steps have been taken."""
    left = _left.get()
    if left is not None:
        left[0] -= steps
        if left[0] < 0:
            raise _TooMuchError


class _TooMuchError(Exception):
    """All steps have been taken."""
