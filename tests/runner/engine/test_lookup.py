"""What followed the same tokens before: the index against a search through the whole text."""

from __future__ import annotations

import doctest
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_gguf.runner.engine import lookup
from nemotron_gguf.runner.engine.lookup import NOTHING, Guess, Lookup


def searched(text: Sequence[int], most: int) -> Guess:
    """The latest earlier place behind the last three tokens, or two; what lies there, over and over if it ends."""
    for size in (3, 2):
        for place in range(len(text) - 1, size - 1, -1):
            if list(text[place - size : place]) == list(text[len(text) - size :]):
                behind = list(text[place:])
                return Guess([behind[index % len(behind)] for index in range(most)], size)
    return NOTHING


def test_the_example_in_its_words() -> None:
    assert doctest.testmod(lookup).attempted == 3
    assert not doctest.testmod(lookup).failed


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 5), st.data())
def test_the_latest_earlier_place(text: list[int], most: int, data: st.DataObject) -> None:
    """However the text grows between two questions."""
    found, end = Lookup(), 0
    while end < len(text) - 1:
        end = data.draw(st.integers(end + 1, len(text) - 1)) if end else min(1, len(text) - 1)
        assert found.guess(text[:end], text[end], most) == searched(text[: end + 1], most)


def test_a_long_prompt_is_known_by_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "REACH", 10)
    text = [1, 2, 3, 4, *range(10, 30), 5, 6, 7, 8, *range(40, 45)]
    assert Lookup().guess([*text, 1, 2], 3, 2) == NOTHING
    assert Lookup().guess([*text, 5, 6], 7, 2) == Guess([8, 40], 3)
