"""Nothing is read twice: what a prompt has in common with what was read, wherever that is kept, stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.runner import Answer, ChatTemplate, Done, Reasoning, RunnerError
from nemotron_gguf.runner.engine.checkpoints import Checkpoint, Parked, Store
from nemotron_gguf.runner.engine.held import common_length
from nemotron_gguf.tests.runner.engine.conftest import Bare

QUESTIONS = ["What is 8 + 5?", "What does the convert room do?", "My name is Ada.", "What is GGUF?", "What is my name?"]
Messages = list[dict[str, Any]]


class Talker:
    """Conversations with the demo model, through its own template."""

    def __init__(self, bare: Bare, path: Path, system: str = "Be brief.") -> None:
        self.bare, self.template = bare, ChatTemplate.from_file(read_gguf(path))
        self.system: Messages = [{"role": "system", "content": system}]

    def prompt(self, messages: Messages, **options: Any) -> str:
        return self.template.render([*self.system, *messages], **options)

    def begin(self, messages: Messages, **wishes: Any) -> int:
        prompt = self.prompt(messages)
        wishes = {"max_tokens": 60, **wishes}
        return self.bare.begin(prompt, format=self.template.format_of(prompt), **wishes)

    def told(self, number: int) -> tuple[dict[str, Any], Done]:
        """The answer as a message, and its end."""
        events = self.bare.sent[number]
        assert isinstance(events[-1], Done), events[-1]
        text = {kind: "".join(e.text for e in events if isinstance(e, kind)) for kind in (Answer, Reasoning)}
        return {"role": "assistant", "content": text[Answer], "reasoning_content": text[Reasoning]}, events[-1]

    def say(self, messages: Messages, question: str, **wishes: Any) -> Done:
        """A turn: the messages grow by a question and its answer."""
        messages.append({"role": "user", "content": question})
        number = self.begin(messages, **wishes)
        self.bare.run()
        answer, done = self.told(number)
        messages.append(answer)
        return done

    def alone(self, messages: Messages) -> dict[str, Any]:
        """The answer to messages where nothing is in memory."""
        self.bare.clear()
        number = self.begin(messages)
        self.bare.run()
        return self.told(number)[0]


@pytest.fixture(scope="module")
def many(bares: Callable[..., Bare], demo_q8: Path) -> Talker:
    return Talker(bares(demo_q8, ctx_size=2048, parallel=4), demo_q8)


@pytest.fixture(scope="module")
def single(bares: Callable[..., Bare], demo_q8: Path) -> Talker:
    return Talker(bares(demo_q8, ctx_size=2048), demo_q8)


@pytest.fixture(params=["many", "single"])
def talker(request: pytest.FixtureRequest) -> Talker:
    found: Talker = request.getfixturevalue(request.param)
    found.bare.clear()
    return found


def answers_alone(talker: Talker, messages: Messages) -> list[dict[str, Any]]:
    asked = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return [talker.alone(messages[: place + 1]) for place in asked]


def test_the_next_turn_goes_on_from_the_last(talker: Talker) -> None:
    messages: Messages = []
    for question in QUESTIONS:
        before = talker.prompt(messages) if messages else ""
        done = talker.say(messages, question)
        new = done.usage.prompt_tokens - done.usage.cached_tokens
        if before:
            # the template drops the reasoning, so all but the last answer and the question is in memory still
            last = talker.bare.vocabulary.encode(messages[-3]["content"] + question)
            assert new <= len(last) + 20
    said = [message for message in messages if message["role"] == "assistant"]
    assert said == answers_alone(talker, messages), "the same tokens as where all is read again"


def test_an_edit_and_another_try_go_on_from_where_they_differ(talker: Talker) -> None:
    messages: Messages = []
    for question in QUESTIONS:
        talker.say(messages, question)
    again = messages[:-1]
    number = talker.begin(again)
    talker.bare.run()
    answer, done = talker.told(number)
    assert answer == messages[-1]
    assert done.usage.prompt_tokens - done.usage.cached_tokens <= 8, "all but the opening of the answer"
    edited: Messages = [*messages[:4], {"role": "user", "content": "My name is Eva."}]
    number = talker.begin(edited)
    talker.bare.run()
    answer, done = talker.told(number)
    end_of_second = len(talker.bare.vocabulary.encode(talker.prompt(messages[:4]).rpartition("<|im_start|>")[0]))
    assert done.usage.cached_tokens >= end_of_second - 20
    assert answer == talker.alone(edited)


def test_four_conversations_in_turn_on_fewer_sequences(bares: Callable[..., Bare], demo_q8: Path) -> None:
    talker = Talker(bares(demo_q8, ctx_size=2048, parallel=2), demo_q8)
    talks: list[Messages] = [[] for _ in range(4)]
    names = ["Ada", "Bob", "Eva", "Max"]
    reread = []
    for turn in range(3):
        for name, messages in zip(names, talks, strict=True):
            done = talker.say(messages, [f"My name is {name}.", "What is 8 + 5?", "What is my name?"][turn])
            reread.append(done.usage.prompt_tokens - done.usage.cached_tokens)
    assert max(reread[4:]) < 40, "conversations that had to make room come back whole"
    said = [[message for message in messages if message["role"] == "assistant"] for messages in talks]
    assert said == [answers_alone(talker, messages) for messages in talks]


def test_a_beginning_that_many_share_is_read_once(bares: Callable[..., Bare], demo_q8: Path) -> None:
    document = " ".join(f"Line {number} says {number * 7 % 13}." for number in range(120))
    talker = Talker(bares(demo_q8, ctx_size=2048, parallel=4), demo_q8, system=document)
    expected = [talker.alone([{"role": "user", "content": question}]) for question in QUESTIONS]
    talker.bare.clear()
    numbers = [talker.begin([{"role": "user", "content": question}]) for question in QUESTIONS]
    talker.bare.run()
    told = [talker.told(number) for number in numbers]
    shared = len(talker.bare.vocabulary.encode(talker.prompt([]).rpartition("<|im_start|>")[0]))
    assert shared > 500
    read = [done.usage.prompt_tokens - done.usage.cached_tokens for _, done in told]
    assert read[0] > shared
    assert max(read[1:]) < 50, "they wait until the first has read it, and have it then"
    assert talker.bare.sequences.cells.taken < 2 * shared, "they have its keys and values in common"
    assert [message for message, _ in told] == expected


def test_a_copied_state_is_the_same_to_the_bit(many: Talker) -> None:
    many.bare.clear()
    messages: Messages = []
    many.say(messages, QUESTIONS[0])
    held, context = many.bare.sequences.all[0], many.bare.context
    whole = context.snapshot(held.number, partial=True)
    place = held.checkpoints[-1]
    assert place.state is not None
    many.bare.sequences.back_to(held, place.position, place.state)
    assert np.array_equal(context.snapshot(held.number, partial=True)[8:], place.state[8:])
    context.restore(held.number, whole, partial=True)
    assert np.array_equal(context.snapshot(held.number, partial=True), whole)


def test_without_memory_for_copies_all_is_read_again(bares: Callable[..., Bare], demo_q8: Path) -> None:
    talker = Talker(bares(demo_q8, ctx_size=1024, cache_ram=0), demo_q8)
    messages: Messages = []
    talker.say(messages, QUESTIONS[0])
    done = talker.say(messages, QUESTIONS[1])
    assert done.usage.cached_tokens == 0
    assert talker.bare.model.occupancy().kept_bytes == 0


def test_copies_stay_within_their_limit(bares: Callable[..., Bare], demo_q8: Path) -> None:
    limit = 3 << 20
    talker = Talker(bares(demo_q8, ctx_size=2048, parallel=2, cache_ram=limit), demo_q8)
    for number in range(8):
        messages: Messages = []
        talker.say(messages, f"What is {number} + 5?")
        talker.say(messages, "What is GGUF?")
        occupancy = talker.bare.model.occupancy()
        assert 0 < occupancy.kept_bytes <= limit
        sizes = sum(copy.nbytes for copy in talker.bare.model.store)
        assert sizes == occupancy.kept_bytes


def test_where_a_state_cannot_be_put_back_all_is_read_again(many: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    many.bare.clear()
    messages: Messages = []
    many.say(messages, QUESTIONS[0])

    def broken(*_: Any, **__: Any) -> None:
        raise RunnerError("llama.cpp could not put a sequence's memory back")

    monkeypatch.setattr(many.bare.context, "restore", broken)
    done = many.say(messages, QUESTIONS[1])
    assert done.usage.cached_tokens == 0
    monkeypatch.undo()
    assert [message for message in messages if message["role"] == "assistant"] == answers_alone(many, messages)
    assert many.bare.model.occupancy().idle == 4


@pytest.mark.parametrize(
    ("one", "other", "length"), [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 9], [2, 9], 0)]
)
def test_common_beginnings(one: Sequence[int], other: Sequence[int], length: int) -> None:
    assert common_length(one, other) == common_length(other, one) == length
    long = [*range(1000), *one]
    assert common_length(long, [*range(1000), *other]) == 1000 + length


def test_the_longest_unused_copies_leave_first() -> None:
    store = Store(100)
    kept = [Checkpoint(place, np.zeros(30, np.uint8)) for place in range(3)]
    for one in kept:
        store.keep(one)
    store.touch(kept[0])
    parked = Parked([1, 2], np.zeros(14, np.uint8), [kept[0]])
    store.keep(parked)
    assert [one.state is None for one in kept] == [False, True, False]
    assert store.used == 30 + 30 + 30
    store.retain([[]])
    assert kept[2].state is None
    assert kept[0].state is not None, "what is parked has it still"
    store.drop(parked)
    store.retain([])
    assert (store.used, list(store)) == (0, [])
    assert not store.fits(101)
