"""While nobody asks, the beginning of the next prompt is read; whoever comes finds the engine free, and it read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.runner.chat.beginning import next_beginning
from nemotron_gguf.runner.chat.literal import Specials
from nemotron_gguf.runner.engine import ahead
from nemotron_gguf.runner.process.memory_messages import Anticipate
from nemotron_gguf.tests.runner.engine.conftest import Bare
from nemotron_gguf.tests.runner.engine.test_sequences import QUESTIONS, Messages, Talker, answers_alone


@pytest.fixture(scope="module")
def loaded(bares: Callable[..., Bare], demo_q8: Path) -> Talker:
    return Talker(bares(demo_q8, ctx_size=2048, parallel=2), demo_q8)


@pytest.fixture
def talker(loaded: Talker) -> Iterator[Talker]:
    loaded.bare.clear()
    yield loaded
    occupancy = loaded.bare.model.occupancy()
    assert (occupancy.ahead, occupancy.idle) == (0, 2)


def anticipate(talker: Talker, messages: Messages, after: int) -> int:
    """Ask for the next beginning to be read ahead; its tokens."""
    beginning = next_beginning(talker.template, [*talker.system, *messages], Specials(), {})
    talker.bare.model.anticipate(Anticipate(after, beginning.text, beginning.cuts))
    return len(talker.bare.vocabulary.tokenize(beginning.text))


def say(talker: Talker, messages: Messages, question: str) -> int:
    """A turn, read to its end; the number of its task."""
    talker.say(messages, question)
    return max(talker.bare.sent)


def test_a_turn_costs_only_its_question(talker: Talker) -> None:
    messages: Messages = []
    for place, question in enumerate(QUESTIONS):
        messages.append({"role": "user", "content": question})
        number = talker.begin(messages)
        talker.bare.run()
        answer, done = talker.told(number)
        messages.append(answer)
        if place:
            new = talker.bare.vocabulary.encode(question + "<|im_end|>\n<|im_start|>assistant\n<think>\n")
            assert done.usage.prompt_tokens - done.usage.cached_tokens == len(new)
        length = anticipate(talker, messages, number)
        talker.bare.run()
        assert any(len(held.tokens) == length for held in talker.bare.sequences.all)
    said = [message for message in messages if message["role"] == "assistant"]
    assert said == answers_alone(talker, messages), "what was read ahead is as good as what is read when it is asked"


def test_what_the_next_prompt_begins_with_is_asked_of_the_template(talker: Talker) -> None:
    answer = {"role": "assistant", "content": "It is 13.", "reasoning_content": "8 + 5 = 13"}
    messages = [*talker.system, {"role": "user", "content": "What is 8 + 5?"}, answer]
    beginning = next_beginning(talker.template, messages, Specials(), {})
    assert "It is 13." in beginning.text
    assert "8 + 5 = 13" not in beginning.text, "the template drops what was thought"
    for question in ("And 2 + 3?", "", "  indented"):
        prompt = talker.template.render([*messages, {"role": "user", "content": question}])
        assert prompt.startswith(beginning.text.rstrip())


def test_a_request_finds_the_engine_free(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ahead is left within one part, and gone on with where it was."""
    messages: Messages = []
    number = say(talker, messages, QUESTIONS[1])
    monkeypatch.setattr(ahead, "PART", 3)
    length = anticipate(talker, messages, number)
    for _ in range(4):
        talker.bare.model.step()
    assert talker.bare.model.occupancy().ahead == 1
    other = talker.begin([{"role": "user", "content": QUESTIONS[0]}])
    before = talker.bare.context.decode_seconds
    talker.bare.model.step()
    assert talker.bare.sent[other], "the newcomer is next"
    assert talker.bare.context.decode_seconds > before
    monkeypatch.undo()
    talker.bare.run()
    assert talker.told(other)[0]["content"] == "8 + 5 = 13."
    assert any(len(held.tokens) == length for held in talker.bare.sequences.all), "and then it is read to its end"


def test_what_came_too_late_is_left_out(talker: Talker) -> None:
    messages: Messages = []
    number = say(talker, messages, QUESTIONS[0])
    earlier = list(messages)
    say(talker, messages, QUESTIONS[1])
    before = [list(held.tokens) for held in talker.bare.sequences.all]
    anticipate(talker, earlier, number)
    talker.bare.run()
    assert [held.tokens for held in talker.bare.sequences.all] == before


def test_another_try_and_an_edit_are_still_near(talker: Talker) -> None:
    messages: Messages = []
    say(talker, messages, QUESTIONS[0])
    number = say(talker, messages, QUESTIONS[1])
    anticipate(talker, messages, number)
    talker.bare.run()
    again = talker.begin(messages[:-1])
    talker.bare.run()
    answer, done = talker.told(again)
    assert answer == messages[-1]
    assert done.usage.prompt_tokens - done.usage.cached_tokens <= 8


def test_what_fails_is_dropped(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: Messages = []
    number = say(talker, messages, QUESTIONS[0])

    def broken(*_: object, **__: object) -> None:
        raise RunnerError("the model could not compute (a test)")

    monkeypatch.setattr(talker.bare.context, "read", broken)
    anticipate(talker, messages, number)
    talker.bare.run()
    monkeypatch.undo()
    assert talker.say(messages, QUESTIONS[1]).finish_reason == "stop"


def test_one_that_does_not_fit_is_left_out(talker: Talker) -> None:
    messages: Messages = []
    number = say(talker, messages, QUESTIONS[0])
    messages[-1] = {"role": "assistant", "content": "word " * 3000}
    anticipate(talker, messages, number)
    talker.bare.run()
    assert max(len(held.tokens) for held in talker.bare.sequences.all) < 100
