"""Many answers at a time: nobody waits for ever, nothing is mixed up, nothing is left behind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.runner import Answer, Done, EngineBusyError, PromptProgress, RunnerError, Sampling
from nemotron_gguf.runner.engine import queue
from nemotron_gguf.runner.engine.batch import Part
from nemotron_gguf.runner.process.messages import Failed
from nemotron_gguf.tests.runner.engine.conftest import Bare

NEVER_END = Sampling(temperature=0, logit_bias=((2, -1e9), (4, -1e9)))  # </s>, <|im_end|>


@pytest.fixture(scope="module")
def loaded(bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]) -> Bare:
    return bares(tiny_gguf(), ctx_size=1024, parallel=4)


@pytest.fixture
def many(loaded: Bare) -> Iterator[Bare]:
    loaded.clear()
    yield loaded
    occupancy = loaded.model.occupancy()
    assert (occupancy.waiting, occupancy.reading, occupancy.answering) == (0, 0, 0)
    assert occupancy.idle == occupancy.sequences == 4, "every sequence is free again"
    check_memory(loaded)


def check_memory(bare: Bare) -> None:
    """What is said to be in memory is what libllama has there."""
    llama, memory = bare.model.llama, bare.context.memory
    for held in bare.sequences.all:
        assert llama.llama_memory_seq_pos_max(memory, held.number) == len(held.tokens) - 1
        assert bare.sequences.cells.held_by([held.number]) == len(held.tokens)


def said(bare: Bare, number: int) -> str:
    return "".join(event.text for event in bare.sent[number] if isinstance(event, Answer))


def done(bare: Bare, number: int) -> Done:
    last = bare.sent[number][-1]
    assert isinstance(last, Done), last
    return last


def alone(bare: Bare, prompt: str | list[int], **wishes: Any) -> str:
    bare.clear()
    number = bare.begin(prompt, **wishes)
    bare.run()
    return said(bare, number)


def test_answers_together_are_those_alone(many: Bare) -> None:
    prompts = [f"{'tell me ' * count}{count}" for count in range(1, 13)]
    expected = [alone(many, prompt, max_tokens=20) for prompt in prompts]
    many.clear()
    numbers = [many.begin(prompt, max_tokens=20) for prompt in prompts]
    many.run()
    assert [said(many, number) for number in numbers] == expected
    assert len(set(expected)) > 6


def test_each_draws_as_it_was_asked_to(many: Bare) -> None:
    """Samplers, budgets, probabilities and stop texts of one do not touch the others."""
    wishes: list[dict[str, Any]] = [
        {"sampling": Sampling(temperature=1.5, seed=7, top_k=0)},
        {"top_logprobs": 2},
        {"sampling": Sampling(temperature=0, presence_penalty=50)},
        {"stop": ("q",)},
    ]
    expected = [alone(many, "tell me", max_tokens=30, **wish) for wish in wishes]
    many.clear()
    numbers = [many.begin("tell me", max_tokens=30, **wish) for wish in wishes]
    many.run()
    assert [said(many, number) for number in numbers] == expected


def test_a_token_each_at_a_step(many: Bare) -> None:
    numbers = [many.begin(f"{letter} tells", NEVER_END, max_tokens=40) for letter in "abcd"]
    while not all(said(many, number) for number in numbers):
        many.model.step()
    before = [many.scheduler.running[place].drawn for place in range(4)]
    for _ in range(10):
        many.model.step()
    assert [answer.drawn - was for answer, was in zip(many.scheduler.running, before, strict=True)] == [10] * 4
    many.run()
    assert {done(many, number).usage.completion_tokens for number in numbers} == {40}


def test_first_come_first_served(many: Bare) -> None:
    numbers = [many.begin(f"{letter} tells", NEVER_END, max_tokens=10) for letter in "abcdefgh"]
    order = []
    while many.model.has_work:
        many.model.step()
        order += [n for n in numbers if n not in order and isinstance((many.sent[n] or [0])[-1], Done)]
    assert sorted(order[:4]) == numbers[:4]
    assert sorted(order[4:]) == numbers[4:]
    assert many.sent[numbers[5]][0] == PromptProgress(0, 7), "who has to wait is told at once"


def test_a_long_prompt_does_not_stop_the_others(many: Bare) -> None:
    many.scheduler.pace.most, most = 50, many.scheduler.pace.most
    talking = many.begin("abc", NEVER_END, max_tokens=60)
    while not said(many, talking):
        many.model.step()
    answer = many.scheduler.running[0]
    reading = many.begin([9, 8, 7] * 200, NEVER_END, max_tokens=5)
    drawn = []
    while not said(many, reading):
        many.model.step()
        drawn.append(answer.drawn)
    many.scheduler.pace.most = most
    assert len(drawn) >= 12
    assert all(after == before + 1 for before, after in pairwise(drawn)), "a token beside each part"
    many.run()
    assert done(many, talking).usage.completion_tokens == 60
    assert done(many, reading).usage.completion_tokens == 5


def test_prompts_are_read_in_turn(many: Bare) -> None:
    """A short one does not wait until a long one has been read."""
    many.scheduler.pace.most, most = 50, many.scheduler.pace.most
    long = many.begin([9, 8, 7] * 200, max_tokens=5)
    short = many.begin("abc", max_tokens=1)
    for _ in range(4):
        many.model.step()
    assert done(many, short)
    many.scheduler.pace.most = most
    many.run()
    assert done(many, long)


def test_ends_of_prompts_are_read_together(many: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the same length, of as many sequences as ask; each goes on as if it had been alone."""
    prompts = [[7 + place] * 20 for place in range(3)] + [[30] * 21]
    expected = [alone(many, prompt, max_tokens=8) for prompt in prompts]
    many.clear()
    read, lengths = many.context.read_parts, list[list[int]]()

    def noted(parts: Sequence[Part], *given: Any, **wishes: Any) -> None:
        lengths.append([len(part.tokens) for part in parts])
        read(parts, *given, **wishes)

    monkeypatch.setattr(many.context, "read_parts", noted)
    numbers = [many.begin(prompt, max_tokens=8) for prompt in prompts]
    many.run()
    assert [20, 20, 20] in lengths
    assert [21] in lengths
    assert [said(many, number) for number in numbers] == expected


def test_any_conversation_may_take_all_that_is_free(many: Bare) -> None:
    for letter in "abc":
        many.begin(f"{letter} tells", max_tokens=3)
    many.run()
    number = many.begin([7] * 1000, NEVER_END, max_tokens=100)
    many.run()
    assert done(many, number).finish_reason == "length"
    assert done(many, number).context_used == 1024, "what is idle made room"


def test_who_does_not_fit_beside_others_waits_for_them(many: Bare) -> None:
    first = many.begin([7] * 600, NEVER_END, max_tokens=20)
    many.model.step()
    second = many.begin([8] * 600, NEVER_END, max_tokens=5)
    while not isinstance(many.sent[first][-1], Done):
        many.model.step()
    assert many.sent[second] == [PromptProgress(0, 600)]
    many.run()
    assert (done(many, first).finish_reason, done(many, second).usage.completion_tokens) == ("length", 5)


def test_a_full_context_ends_the_longest_and_the_others_go_on(many: Bare) -> None:
    numbers = [many.begin([7 + place] * 250, NEVER_END, max_tokens=60) for place in range(4)]
    many.run()
    ends = [done(many, number) for number in numbers]
    assert all(end.finish_reason == "length" for end in ends)
    drawn = [end.usage.completion_tokens for end in ends]
    assert min(drawn) < 60, "there was no room for all"
    assert sorted(drawn)[1:] == [60] * 3


def test_a_prompt_that_is_being_read_gives_way(many: Bare) -> None:
    many.scheduler.pace.most, most = 20, many.scheduler.pace.most
    talking = [many.begin([7 + place] * 60, NEVER_END, max_tokens=170) for place in range(3)]
    while not all(said(many, number) for number in talking):
        many.model.step()
    reading = many.begin([200] * 800, NEVER_END, max_tokens=3)
    many.run()
    many.scheduler.pace.most = most
    assert [done(many, number).usage.completion_tokens for number in talking] == [170] * 3
    assert done(many, reading).usage.completion_tokens == 3
    begun = [event.done for event in many.sent[reading] if isinstance(event, PromptProgress)]
    assert any(after <= before for before, after in pairwise(begun)), "it began again"


def test_an_answer_that_cannot_be_computed_is_the_end_of_it_alone(many: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(many, "tell me", max_tokens=10)
    many.clear()
    read = many.context.read_parts

    def broken(parts: Sequence[Part], *given: Any, **wishes: Any) -> None:
        if any(250 in part.tokens for part in parts):
            raise RunnerError("the model could not compute (a test)")
        read(parts, *given, **wishes)

    monkeypatch.setattr(many.context, "read_parts", broken)
    good, bad = many.begin("tell me", max_tokens=10), many.begin([7, 8, 250], max_tokens=10)
    many.run()
    begun, failure = [PromptProgress(0, 3)], Failed("RunnerError", "the model could not compute (a test)")
    assert many.sent[bad] == [*begun, *begun, failure], "together with the other at first, then alone"
    assert said(many, good) == expected


def test_a_step_that_fails_ends_those_that_took_part(many: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [many.begin(f"{letter} tells", NEVER_END, max_tokens=30) for letter in "abcde"]
    while not all(said(many, number) for number in numbers[:4]):
        many.model.step()

    def broken(_rows: object) -> None:
        raise RunnerError("the model could not compute (a test)")

    monkeypatch.setattr(many.context, "advance", broken)
    many.model.step()
    monkeypatch.undo()
    assert [type(many.sent[number][-1]) for number in numbers[:4]] == [Failed] * 4
    many.run()
    assert done(many, numbers[4]).usage.completion_tokens == 30, "the next one begins as if nothing had been"


def test_too_many_are_refused(many: Bare) -> None:
    numbers = [many.begin("a", max_tokens=1) for _ in range(queue.LONGEST)]
    with pytest.raises(EngineBusyError, match="try again"):
        many.begin("a", max_tokens=1)
    many.run()
    assert all(done(many, number) for number in numbers)


def test_a_cancelled_reading_leaves_a_sequence_that_can_be_used(many: Bare) -> None:
    """Stopped in the midst of a computation: what libllama left there is not gone on with."""
    prompt = [20 + number % 200 for number in range(900)]
    expected = alone(many, prompt, max_tokens=8)
    many.clear()
    asked = iter(range(1 << 30))
    number = many.begin(prompt, max_tokens=8)
    many.cancelled.questions[number] = lambda: next(asked) > 20  # within the first part
    many.run()
    assert done(many, number).finish_reason == "cancelled"
    check_memory(many)
    many.cancelled.questions.clear()
    again = many.begin(prompt, max_tokens=8)
    many.run()
    assert said(many, again) == expected


def test_many_come_and_go(many: Bare) -> None:
    """A sample of what `bench/conversations.py` does for minutes: random prompts, some cancelled at random moments."""
    draw = random.Random(5)
    texts = [f"{'word ' * draw.randrange(1, 30)}{number}" for number in range(16)]
    wishes: dict[str, Any] = {"max_tokens": 12}
    expected = {text: alone(many, text, **wishes) for text in texts}
    many.clear()
    open_: dict[int, str] = {}
    end, finished, cancelled = time.monotonic() + 5, 0, 0
    while open_ or time.monotonic() < end:
        while len(open_) < 24 and time.monotonic() < end:
            text = draw.choice(texts)
            open_[many.begin(text, **wishes)] = text
        many.model.step()
        if draw.random() < 0.1:
            many.cancelled.questions[draw.choice(list(open_))] = lambda: True
        for number in [one for one in open_ if isinstance((many.sent[one] or [0])[-1], Done | Failed)]:
            reason = done(many, number).finish_reason
            assert reason == "cancelled" or said(many, number) == expected[open_[number]]
            finished, cancelled = finished + 1, cancelled + (reason == "cancelled")
            many.cancelled.questions.pop(number, None)
            del open_[number], many.sent[number]
        if finished % 50 == 0:
            check_memory(many)
    assert finished > 100
    assert cancelled > 5
