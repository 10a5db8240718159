"""Parts of prompts are of a size that keeps the others' streams going; checkpoints are kept where turns end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nemotron_gguf.runner.engine.pace import FEWEST, GAP, Pace
from nemotron_gguf.runner.engine.turns import FAR_APART, worth_keeping


@pytest.mark.parametrize(("fixed", "each"), [(0.0, 0.001), (0.02, 0.001), (0.03, 0.0001), (0.001, 0.004)])
@pytest.mark.parametrize("step", [0.0, 0.03])
def test_parts_come_to_take_what_a_gap_leaves(fixed: float, each: float, step: float) -> None:
    """A machine that takes `fixed` seconds for reading its weights, and `each` for a token."""
    pace = Pace(512)
    for _ in range(60):
        pace.stepped(step)
        count = pace.count(beside_answers=True)
        pace.read(count, fixed + each * count)
    took = pace.step_seconds + fixed + each * pace.count(beside_answers=True)
    assert took <= GAP * 1.05
    assert took > GAP * 0.9 or pace.count(beside_answers=True) == 512


def test_a_slow_machine_still_reads() -> None:
    pace = Pace(512)
    pace.stepped(1.0)
    pace.read(64, 10.0)
    assert pace.count(beside_answers=True) == FEWEST
    assert Pace(8).count(beside_answers=True) == 8


def test_alone_the_clock_decides_nothing() -> None:
    pace = Pace(512)
    counts = set()
    for seconds in (0.01, 0.5, 90.0):
        pace.read(512, seconds)
        pace.stepped(seconds)
        counts.add(pace.count(beside_answers=False))
    assert counts == {512}


def test_a_hitch_is_believed_and_forgotten() -> None:
    pace = Pace(512)
    pace.read(512, 0.512)
    pace.read(100, 1.0)
    assert pace.count(beside_answers=True) == 10
    for _ in range(10):
        pace.read(100, 0.1)
    assert pace.count(beside_answers=True) > 90


def test_the_first_and_the_last_turns_are_kept_and_some_between() -> None:
    ends = [30, *range(100, 20000, 100)]
    kept = worth_keeping(ends, 0, 20050)
    assert kept[0] == 30
    assert kept[-2:] == ends[-2:]
    assert len(kept) <= 20
    apart = [after - before for before, after in pairwise(kept[:-2])]
    assert min(apart) >= FAR_APART
    assert worth_keeping(ends, 19900, 20050) == []
    assert worth_keeping(ends, 19850, 20050) == [19900]
    assert worth_keeping([], 0, 50) == []
