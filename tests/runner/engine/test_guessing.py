"""Guessed tokens are computed and taken back: nobody can tell from what an answer says, or from what follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.runner import Done, RunnerError, Sampling
from nemotron_gguf.runner.engine.batch import Row
from nemotron_gguf.runner.engine.guessing import FIRST, RAREST, Worth
from nemotron_gguf.runner.engine.lookup import Guess, Lookup
from nemotron_gguf.tests.against.files_of_others import file_of_others
from nemotron_gguf.tests.runner.engine.conftest import Bare
from nemotron_gguf.tests.runner.engine.test_ahead import anticipate
from nemotron_gguf.tests.runner.engine.test_saving import restore, save
from nemotron_gguf.tests.runner.engine.test_scheduler import check_memory, done, said
from nemotron_gguf.tests.runner.engine.test_sequences import QUESTIONS, Messages, Talker

MOST = 4
AGAIN = "abc abc abc abc"  # the demo model goes on so
QUESTION = "<|im_start|>user\nWhat is 8 + 5?<|im_end|>\n<|im_start|>assistant\n<think>\n"


class Prophet(Lookup):
    """Knows what will be said, and is wrong about a part of it, so that all numbers of tokens are taken back."""

    def __init__(self, text: Sequence[int], seed: int = 7) -> None:
        super().__init__()
        self.text, self.seed = list(text), seed
        self.right: list[int] = []  # of each guess

    def guess(self, text: Sequence[int], last: int, most: int) -> Guess:
        behind = self.text[len(text) + 1 :]
        assert self.text[: len(text) + 1] == [*text, last][: len(self.text)], "it says what was prophesied"
        right = (self.seed + len(self.right)) % (most + 1)
        known = [*behind[:right], *[9] * most][:most]
        self.right.append(next((at for at, (a, b) in enumerate(zip(known, behind, strict=False)) if a != b), most))
        return Guess(known, 3)


def always(bare: Bare) -> Bare:
    """No guess is left out, whatever the clock says."""
    bare.scheduler.guessing.worth.length = lambda size, most: most * bool(size)  # type: ignore[method-assign]
    return bare


@pytest.fixture(scope="module")
def plain_demo(bares: Callable[..., Bare], demo_q8: Path) -> Bare:
    return bares(demo_q8, ctx_size=1024, parallel=2)


@pytest.fixture(scope="module")
def guessing_demo(bares: Callable[..., Bare], demo_q8: Path) -> Bare:
    return always(bares(demo_q8, ctx_size=1024, parallel=2, lookup=MOST))


@pytest.fixture
def plain(plain_demo: Bare) -> Bare:
    plain_demo.clear()
    return plain_demo


@pytest.fixture
def guessing(guessing_demo: Bare) -> Iterator[Bare]:
    guessing_demo.clear()
    yield guessing_demo
    assert guessing_demo.model.occupancy().idle == 2
    check_memory(guessing_demo)


def foretold(plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch, seed: int = 7) -> Prophet:
    """Who guesses what the other model holds now in its first sequence."""
    prophet = Prophet(plain.tokens, seed)
    monkeypatch.setattr("nemotron_gguf.runner.engine.answering.Lookup", lambda: prophet)
    guessing.clear()
    return prophet


def test_a_text_that_repeats_takes_fewer_computations(
    plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain.ask(AGAIN, max_tokens=60)
    counts, advance = list[int](), guessing.context.advance

    def counted(rows: Sequence[Row]) -> None:
        counts.append(len(rows))
        advance(rows)

    monkeypatch.setattr(guessing.context, "advance", counted)
    found = guessing.ask(AGAIN, max_tokens=60)
    assert found[:2] == expected[:2]
    assert guessing.tokens == plain.tokens
    assert len(counts) < 25
    usage = found[2].usage
    assert usage.right_tokens > 35
    assert usage.guessed_tokens - usage.right_tokens == sum(counts) - (usage.completion_tokens - 1)
    assert (plain.context.lookup, expected[2].usage.guessed_tokens) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_guessed_the_same_is_said(
    plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """And the memory is the same: to the bit where the library computes several tokens as it does one."""
    expected = plain.ask(QUESTION, max_tokens=80)
    prophet = foretold(plain, guessing, monkeypatch, seed)
    found = guessing.ask(QUESTION, max_tokens=80)
    assert found[:2] == expected[:2]
    assert guessing.tokens == plain.tokens
    assert set(prophet.right) >= {0, 1, MOST}
    states = [bare.context.snapshot(0, partial=True) for bare in (plain, guessing)]
    assert states[0].nbytes == states[1].nbytes, "the copies are no part of it"
    one, other = (state[state.nbytes % 4 :].view(np.float32) for state in states)
    same = np.isclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert same.mean() > 0.999


def test_random_weights_say_the_same(
    bares: Callable[..., Bare], tiny_gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In F32, which is added up in another order for several tokens."""
    plain, guessing = bares(tiny_gguf()), always(bares(tiny_gguf(), lookup=2))
    expected = plain.ask("tell me", max_tokens=40, ignore_end=True)
    foretold(plain, guessing, monkeypatch)
    assert guessing.ask("tell me", max_tokens=40, ignore_end=True)[:2] == expected[:2]
    assert guessing.tokens == plain.tokens
    check_memory(guessing)


@pytest.mark.parametrize(
    "wishes",
    [
        {"sampling": Sampling(temperature=1.2, seed=5)},
        {"sampling": Sampling(temperature=0.9, seed=6, repeat_penalty=1.3, presence_penalty=0.5)},
        {"sampling": Sampling(temperature=1, seed=8, mirostat=2)},
        {"sampling": Sampling(temperature=0, dry_multiplier=1, dry_allowed_length=2)},
        {"top_logprobs": 2},
        {"max_tokens": 7},
        {"stop": ("bc a",)},
        {"ignore_end": True},
    ],
    ids=str,
)
def test_each_is_drawn_as_without(
    plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch, wishes: dict[str, Any]
) -> None:
    """Random numbers, penalties, probabilities; stop texts and the last token in the midst of a guess."""
    wishes = {"max_tokens": 40, **wishes}
    expected = plain.ask(AGAIN, **wishes)
    foretold(plain, guessing, monkeypatch)
    found = guessing.ask(AGAIN, **wishes)
    assert found[:2] == expected[:2]
    assert guessing.tokens == plain.tokens
    usage, before = found[2].usage, expected[2].usage
    assert (found[2].finish_reason, usage.completion_tokens) == (expected[2].finish_reason, before.completion_tokens)
    assert found[2].context_used == expected[2].context_used


@pytest.mark.parametrize("budget", [0, 3, 9])
def test_the_end_of_thinking_is_written_in_the_midst(
    plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch, budget: int, demo_q8: Path
) -> None:
    wishes: dict[str, Any] = {"format": Talker(plain, demo_q8).template.format_of(QUESTION), "max_tokens": 60}
    expected = plain.ask(QUESTION, reasoning_budget=budget, **wishes)
    prophet = foretold(plain, guessing, monkeypatch)
    found = guessing.ask(QUESTION, reasoning_budget=budget, **wishes)
    assert found[:2] == expected[:2]
    assert found[2].usage.reasoning_tokens == expected[2].usage.reasoning_tokens == budget
    assert found[2].usage.forced_tokens == expected[2].usage.forced_tokens > 0
    assert guessing.tokens == plain.tokens
    assert prophet.right


def test_conversations_go_on_as_without(
    plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch, demo_q8: Path, tmp_path: Path
) -> None:
    """Turns, what is read ahead, what is saved and put back: all begins where tokens were taken back."""
    told: list[Any] = []
    for bare in (plain, guessing):
        monkeypatch.undo()
        if bare is guessing:  # wrong at every step, so that something is taken back when the answer ends
            monkeypatch.setattr(Lookup, "guess", lambda _self, _text, _last, most: Guess([9] * most, 3))
        talker, messages, cached = Talker(bare, demo_q8), Messages(), list[int]()
        for question in QUESTIONS[:2]:
            cached.append(talker.say(messages, question).usage.cached_tokens)
        number = max(bare.sent)
        anticipate(talker, messages, number)
        bare.run()
        cached.append(talker.say(messages, QUESTIONS[2]).usage.cached_tokens)
        path = tmp_path / f"{bare is guessing}.state"
        save(talker, messages, path)
        bare.clear()
        restore(talker, path)
        cached.append(talker.say(messages, QUESTIONS[3]).usage.cached_tokens)
        told.append((messages, cached))
    assert told[0] == told[1]
    assert told[0][1][-1] > 60
    assert done(guessing, max(guessing.sent)).usage.right_tokens == 0


@pytest.mark.parametrize("count", range(1, MOST + 1))
def test_a_copy_is_taken_of_what_is_left(plain: Bare, guessing: Bare, count: int) -> None:
    """Right after tokens were taken back: a checkpoint, a sequence that begins alike, one that was parked."""
    text = plain.vocabulary.tokenize(QUESTION)
    pending, end = Row(text[3], 0, len(text)), len(text) + 1
    for bare, guessed in ((plain, 0), (guessing, count)):
        bare.read(text)
        bare.context.advance([pending, *(Row(9, 0, end + ahead) for ahead in range(guessed))])
        if guessed:
            bare.context.cut(0, end)
            with pytest.raises(AssertionError):
                bare.context.cut(0, end - 1)  # only once: the states before are not told apart any more
        bare.sequences.read(bare.sequences.all[0], [pending.token])
        part = bare.context.snapshot(0, partial=True)
        bare.context.restore(1, bare.context.snapshot(0, partial=False), partial=False)
        assert np.array_equal(bare.context.snapshot(1, partial=True)[8:], part[8:]), "but for the sequence's number"
    drawn = []
    for bare in (plain, guessing):
        for number in (0, 1):
            bare.context.advance([Row(text[-1], number, end)])
            drawn.append(bare.context.llama.llama_get_logits_ith(bare.context.handle, 0)[:100])
        bare.clear()
    assert drawn[2] == drawn[3]
    np.testing.assert_allclose(drawn[3], drawn[0], rtol=1e-3, atol=1e-3)


def test_nobody_is_guessed_for_beside_others(guessing: Bare) -> None:
    numbers = [guessing.begin(AGAIN, max_tokens=30) for _ in range(2)]
    guessing.run()
    usages = [done(guessing, number).usage for number in numbers]
    assert [usage.completion_tokens for usage in usages] == [30, 30]
    assert sum(usage.guessed_tokens for usage in usages) <= MOST, "as long as both answer"
    assert said(guessing, numbers[0]) == said(guessing, numbers[1])


def test_the_context_is_filled_to_the_last_token(plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    for bare in (plain, guessing):
        monkeypatch.setattr(bare.context, "size", 50)
        end = bare.ask(AGAIN, ignore_end=True)[2]
        assert (end.finish_reason, end.context_used) == ("length", 50)
    assert guessing.tokens == plain.tokens


@pytest.mark.parametrize("after", [1, 2, 5])
def test_who_is_cancelled_leaves_what_was_said(
    plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    expected = plain.ask(AGAIN, max_tokens=60)
    foretold(plain, guessing, monkeypatch)
    steps = 0

    def cancelled() -> bool:
        nonlocal steps
        steps += 1
        return steps > 3 * after

    events = [event for step in guessing.steps(AGAIN, cancelled=cancelled, max_tokens=60) for event in step]
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "cancelled"
    assert guessing.tokens == plain.tokens[: len(guessing.tokens)]
    check_memory(guessing)
    assert guessing.ask(AGAIN, max_tokens=60)[:2] == expected[:2]


def test_a_draw_that_fails_takes_the_rest_back(plain: Bare, guessing: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain.ask(AGAIN, max_tokens=60)
    number = guessing.begin(AGAIN, max_tokens=60)
    while not said(guessing, number):
        guessing.model.step()
    answer = guessing.scheduler.running[0]
    draw = answer.draw

    def broken(row: int) -> Any:
        if row == 2:
            raise RunnerError("no numbers (a test)")
        return draw(row)

    monkeypatch.setattr(answer, "draw", broken)
    guessing.run()
    assert guessing.sent[number][-1].message == "no numbers (a test)"
    check_memory(guessing)
    assert guessing.tokens == plain.tokens[: len(guessing.tokens)]
    assert guessing.ask(AGAIN, max_tokens=60)[:2] == expected[:2]


def test_a_computation_that_fails_is_forgotten(guessing: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    number = guessing.begin(AGAIN, max_tokens=60)
    while not said(guessing, number):
        guessing.model.step()

    def broken(_rows: object) -> None:
        raise RunnerError("the model could not compute (a test)")

    monkeypatch.setattr(guessing.context, "advance", broken)
    guessing.run()
    assert guessing.sent[number][-1].message == "the model could not compute (a test)"
    assert guessing.tokens == []


def test_a_model_without_states_needs_no_copies(bares: Callable[..., Bare]) -> None:
    """Plain attention, which can be cut anywhere."""
    path = file_of_others("SmolLM2-135M-Instruct.Q4_1.gguf")
    plain, guessing = bares(path, ctx_size=256), always(bares(path, ctx_size=256, lookup=2))
    assert (guessing.context.rolls_back, guessing.context.lookup) == (True, 2)
    prompt = "The cat sat on the mat.\n" * 8 + "The cat"
    expected = plain.ask(prompt, max_tokens=16, ignore_end=True)
    found = guessing.ask(prompt, max_tokens=16, ignore_end=True)
    assert found[:2] == expected[:2]
    assert guessing.tokens == plain.tokens
    assert found[2].usage.right_tokens >= 8
    check_memory(guessing)


def learned(costs: Sequence[float]) -> Worth:
    """Who knows what a computation takes with none, one, two … guesses."""
    worth = Worth(len(costs) - 1)
    for count, seconds in enumerate(costs):
        worth.computed(count, 100.0)  # the first is not believed
        for _ in range(3):
            worth.computed(count, seconds)
    return worth


def test_guesses_that_cost_nothing_are_all_made() -> None:
    worth = learned([1, 1, 1, 1])
    assert worth.length(3, 3) == 3
    assert worth.length(3, 2) == 2
    assert worth.length(3, 0) == 0


def test_as_many_as_pay() -> None:
    """With the second one the processor computes twice."""
    worth = learned([1, 1.2, 2.2, 2.3])
    assert worth.length(3, 3) == 1
    for _ in range(20):
        worth.turned_out(3, 3, 3)
    assert worth.length(3, 3) == 3, "all of them are always right"
    assert worth.right[2] < worth.right[3]


def test_what_it_costs_afterwards_counts() -> None:
    """libllama plans anew for a single token after several."""
    worth = learned([1, 1.1])
    assert worth.length(3, 1) == 1
    for _ in range(20):
        worth.computed(1, 1.1)
        worth.computed(0, 2)
    assert worth.seconds[0] == 1
    assert worth.length(3, 1) == 0


def test_who_is_always_wrong_is_asked_ever_more_seldom() -> None:
    worth = learned([1, 1.3, 1.6])
    tried = []
    for chance in range(4 * RAREST):
        if count := worth.length(3, 2):
            tried.append(chance)
            worth.turned_out(3, count, 0)
    waits = list(np.diff(tried))
    assert waits[-1] == RAREST
    assert len(tried) < 25
    while not worth.length(3, 2):
        pass
    worth.turned_out(3, 2, 2)
    assert [worth.length(3, 2) for _ in range(FIRST)].count(0) < FIRST, "one that was right is followed by another"


def test_nothing_is_guessed_before_it_is_known_what_a_token_takes() -> None:
    worth = Worth(2)
    assert worth.length(3, 2) == 0
    worth.computed(0, 1)
    worth.computed(0, 1)
    assert worth.length(3, 2) == 2
