"""An answer from its first token to its end: who ends it, how much is thought, which tokens were likely."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nemotron_gguf.runner import Answer, Done, Drawn, Reasoning, RunnerError, Sampling
from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.engine.stops import StopTexts
from nemotron_gguf.runner.engine.thinking import ThinkingCount, default_budget

if TYPE_CHECKING:
    from nemotron_gguf.tests.runner.engine.conftest import Bare

GREEDY = Sampling(temperature=0)
QUESTION = (
    "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nWhat is 8 + 5?<|im_end|>\n<|im_start|>assistant\n<think>\n"
)
THINKS = ChatFormat(thinking=True)


def test_an_answer_has_its_reasoning_apart(demo: Bare) -> None:
    thought, said, done = demo.ask(QUESTION, format=THINKS)
    assert "8 + 5 = 13" in thought
    assert said == "8 + 5 = 13."
    assert (done.finish_reason, done.usage.forced_tokens) == ("stop", 0)
    tokens = demo.vocabulary.encode(thought + "\n")
    assert done.usage.reasoning_tokens == len(tokens), "the marker is not counted"
    assert done.context_used == done.usage.prompt_tokens + done.usage.completion_tokens


@pytest.mark.parametrize("budget", [0, 1, 2, 7, 13])
def test_a_budget_is_kept_to_the_token(demo: Bare, budget: int) -> None:
    _, said, done = demo.ask(QUESTION, format=THINKS, reasoning_budget=budget)
    assert done.usage.reasoning_tokens == budget
    assert done.usage.forced_tokens == len(demo.vocabulary.encode(THINKS.close if budget else THINKS.close_empty))
    assert said
    assert done.context_used == done.usage.prompt_tokens + done.usage.completion_tokens + done.usage.forced_tokens


def test_a_large_budget_changes_nothing(demo: Bare) -> None:
    free = demo.ask(QUESTION, format=THINKS, reasoning_budget=-1)
    assert demo.ask(QUESTION, format=THINKS, reasoning_budget=500)[:2] == free[:2]
    assert free[2].usage.forced_tokens == 0


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 8, 16])
def test_few_tokens_still_give_an_answer(demo: Bare, max_tokens: int) -> None:
    thought, said, done = demo.ask(QUESTION, format=THINKS, max_tokens=max_tokens)
    assert said, f"only {thought!r} was thought"
    assert done.usage.completion_tokens <= max_tokens
    assert done.usage.reasoning_tokens == default_budget(max_tokens)


def test_who_asks_for_it_gets_reasoning_alone(demo: Bare) -> None:
    thought, said, done = demo.ask(QUESTION, format=THINKS, max_tokens=8, reasoning_budget=-1)
    assert (said, done.finish_reason, done.usage.reasoning_tokens) == ("", "length", 8)
    assert thought


def test_thinking_can_be_ended_from_outside(demo: Bare) -> None:
    enough, events = threading.Event(), []
    for step in demo.steps(QUESTION, enough=enough.is_set, format=THINKS):
        events += step
        if sum(isinstance(event, Reasoning) for event in events) == 3:
            enough.set()
    done = events[-1]
    assert isinstance(done, Done)
    assert 3 <= done.usage.reasoning_tokens <= 5
    assert done.usage.forced_tokens
    assert any(isinstance(event, Answer) for event in events)


def test_the_default_budget_leaves_room() -> None:
    for room, following in pairwise(range(2000)):
        assert 0 <= default_budget(room) <= room
        assert default_budget(following) >= default_budget(room)
        assert room == 0 or default_budget(room) < room
    assert default_budget(1 << 20) == (1 << 20) - 4096


@pytest.mark.parametrize("pieces", [["a", "b</", "thi", "nk>", "c"], ["ab", "</think>c"], ["a", "b</think>", "c"]])
def test_the_count_leaves_out_the_marker(pieces: list[str]) -> None:
    count, whole = ThinkingCount("</think>"), ""
    for piece in pieces:
        before = "</think>" not in whole
        whole += piece
        count.add(piece, before, "</think>" not in whole)
    assert count.count == {5: 1, 2: 1, 3: 1}[len(pieces)]


STOPS = [
    (["STOP"], "go on STOP and no further", "go on ", True),
    (["ab", "abc"], "xxabc", "xx", True),
    (["aab"], "aaab", "a", True),
    (["\n\n"], "one\ntwo\n\nthree", "one\ntwo", True),
    (["none"], "non, no, not", "non, no, not", False),
    (["你好"], "说你好", "说", True),
    ([], "anything", "anything", False),
    (["", "x"], "yx", "y", True),
]


@pytest.mark.parametrize(("texts", "whole", "given", "hit"), STOPS)
def test_stop_texts_are_found_at_any_cut(texts: list[str], whole: str, given: str, hit: bool) -> None:
    for first in range(len(whole) + 1):
        for second in range(first, len(whole) + 1):
            stops = StopTexts(texts)
            said = "".join(map(stops.feed, (whole[:first], whole[first:second], whole[second:])))
            assert (said + stops.finish(), stops.hit) == (given, hit)


def test_a_stop_text_ends_the_answer_and_not_the_reasoning(demo: Bare) -> None:
    _, whole, _ = demo.ask(QUESTION, format=THINKS)
    thought, said, done = demo.ask(QUESTION, format=THINKS, stop=("= 1",))
    assert "= 1" in thought
    assert said == whole[: whole.index("= 1")]
    assert done.finish_reason == "stop"


def test_a_seed_repeats_an_answer(tiny: Bare) -> None:
    prompt = tiny.vocabulary.encode("tell me")
    hot = [Sampling(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=seed) for seed in (1, 1, 2)]
    draws = [tiny.ask(prompt, sampling, max_tokens=20)[1] for sampling in hot]
    assert draws[0] == draws[1] != draws[2]


def test_an_answer_can_be_cancelled(tiny: Bare) -> None:
    stop, events = threading.Event(), []
    for step in tiny.steps("tell me", cancelled=stop.is_set):
        events += step
        if any(isinstance(event, Answer) for event in events):
            stop.set()
    assert events[-1].finish_reason == "cancelled"  # type: ignore[union-attr]
    assert tiny.ask("tell me", max_tokens=8)[2].usage.completion_tokens == 8


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_an_error(
    bares: Callable[..., Bare], tiny_gguf: Callable[..., Path], number: float
) -> None:
    bare = bares(tiny_gguf(fill={"output.weight": number}))
    for sampling in (GREEDY, Sampling()):
        with pytest.raises(RunnerError, match="instead of probabilities"):
            bare.ask([7, 8, 9], sampling)


def test_probabilities_are_those_of_the_logits(tiny: Bare) -> None:
    prompt = tiny.vocabulary.encode("tell me")
    llama, handle = tiny.model.llama, tiny.context.handle
    (step,) = [s for s in tiny.steps(prompt, max_tokens=1, top_logprobs=3) if any(isinstance(e, Drawn) for e in s)]
    drawn = next(event for event in step if isinstance(event, Drawn))
    raw = np.ctypeslib.as_array(llama.llama_get_logits_ith(handle, -1), shape=(tiny.vocabulary.size,))
    logits = raw.astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum())
    best = np.argsort(-logits)[:3]
    assert [one.token for one in drawn.top] == best.tolist()
    assert [one.logprob for one in drawn.top] == pytest.approx(logprobs[best].tolist(), abs=1e-9)
    assert drawn.token == drawn.top[0]
    assert drawn.token.raw == tiny.vocabulary.piece(drawn.token.token, special=True)


def test_probabilities_are_given_for_every_token(demo: Bare) -> None:
    events = [event for step in demo.steps(QUESTION, format=THINKS, top_logprobs=0) for event in step]
    drawn = [event for event in events if isinstance(event, Drawn)]
    done = events[-1]
    assert isinstance(done, Done)
    assert len(drawn) == done.usage.completion_tokens
    assert all(event.top == () and event.token.logprob <= 0 for event in drawn)
    text = b"".join(event.token.raw for event in drawn).decode()
    assert text.endswith("</think>8 + 5 = 13.") or "</think>" in text
    assert sum(event.thinking for event in drawn) == done.usage.reasoning_tokens + 1, "the marker is drawn, too"
