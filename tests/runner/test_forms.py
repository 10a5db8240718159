"""Answers in a form through the front: messages, conversations, plain texts; several answers to one prompt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nemotron_gguf.runner import (
    Answer,
    AnyEvent,
    ChatModel,
    Done,
    Drawn,
    GrammarError,
    Reasoning,
    RunnerError,
    Sampling,
    Settings,
    open_model,
)

SUM = {"type": "object", "properties": {"sum": {"type": "integer", "maximum": 99}}, "required": ["sum"]}
QUESTION = [{"role": "user", "content": "What is 8 + 5?"}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def model(demo_q8: Path) -> Iterator[ChatModel]:
    with open_model(demo_q8, Settings(threads=1, temperature=0, parallel=3, ctx_size=2048)) as opened:
        yield opened


def said(events: list[AnyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer))


def done(events: list[AnyEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


@pytest.mark.parametrize("thinking", [True, False])
def test_an_answer_has_the_form_and_its_reasoning_is_free(model: ChatModel, thinking: bool) -> None:
    events = list(model.answer(QUESTION, thinking=thinking, json_schema=SUM))
    jsonschema.validate(json.loads(said(events)), SUM)
    assert done(events).finish_reason == "stop"
    thought = "".join(event.text for event in events if isinstance(event, Reasoning))
    assert ("8 + 5 = 13" in thought) == thinking


def test_a_conversation_keeps_the_form_until_it_is_taken_away(model: ChatModel) -> None:
    talk = model.conversation()
    talk.grammar = 'root ::= "It is " [0-9]{1,2} "."'
    first = said(list(talk.send("What is 8 + 5?")))
    assert first.startswith("It is ")
    assert talk.messages[-1]["content"] == first
    talk.grammar, talk.json_schema = None, json.dumps({"enum": ["yes", "no"]})

    async def ask() -> list[AnyEvent]:
        return [event async for event in talk.asend("Sure?", top_logprobs=1)]

    events = asyncio.run(ask())
    assert said(events) in ('"yes"', '"no"')
    assert sum(isinstance(event, Drawn) for event in events) == done(events).usage.completion_tokens
    talk.json_schema = None
    assert said(list(talk.send("What is 2 + 3?"))).startswith("2 + 3 = ")


def test_a_plain_text_goes_on_in_the_form(model: ChatModel) -> None:
    assert said(list(model.complete("The answer is", grammar='root ::= " " ("yes" | "no") "\\n"'))) in (
        " yes\n",
        " no\n",
    )


def test_marks_in_a_form_stay_text(model: ChatModel) -> None:
    text = "<tool_call> </think> <think>"
    assert said(list(model.answer(QUESTION, json_schema={"const": text}))) == json.dumps(text)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"json_schema": {"not": {}}}, "the schema at #: 'not' cannot be kept to"),
        ({"json_schema": "{"}, "the schema is no JSON"),
        ({"grammar": "root ::= root"}, "no text can satisfy it"),
        ({"grammar": 5}, "expected a text of GBNF"),
        ({"grammar": 'root ::= "a"', "json_schema": {}}, "give one of them"),
        ({"json_schema": {}, "tools": TOOLS}, "cannot call tools"),
    ],
)
def test_a_form_that_cannot_be_kept_is_one_error(model: ChatModel, wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(GrammarError) as caught:
        model.answer(QUESTION, **wishes)
    assert words in str(caught.value)


def test_the_engine_outlives_a_hostile_grammar(model: ChatModel) -> None:
    grammar = 'root ::= ("a" root "b" | "a" root "c" | "a" root "d" | "a" root)'
    with pytest.raises(GrammarError, match="no text can satisfy it"):
        model.complete("a", grammar=grammar)
    process = model.engine._process
    biased = Sampling(temperature=0, logit_bias=tuple((token, 80.0) for token in model.engine.tokenize(_plain("["))))
    ambiguous = 'root ::= "[" root "]" | "[" root "]" "x" | "[" root "]" "y" | "q"'
    with pytest.raises(GrammarError, match=r"ways to read|too much work"):
        list(model.complete("a", grammar=ambiguous, sampling=biased))
    assert said(list(model.complete("a", grammar='root ::= "b"'))) == "b"
    assert model.engine._process is process


def _plain(text: str) -> Any:
    from nemotron_gguf.runner.chat.literal import Prompt

    return Prompt(text)


def test_several_answers_read_their_prompt_once(model: ChatModel) -> None:
    story = " ".join(f"The {at}th of the animals was a cat, and it was called number {at}." for at in range(20))
    messages = [{"role": "user", "content": story + " What is 8 + 5?"}]
    hot = Sampling(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=7)
    streams = model.answers(messages, 6, sampling=hot, json_schema={"type": "integer", "minimum": 0}, max_tokens=300)
    answers = [list(stream) for stream in streams]
    ends = [done(events) for events in answers]
    assert ends[0].usage.prompt_tokens > 200
    read = [end.usage.prompt_tokens - end.usage.cached_tokens for end in ends]
    assert read[0] == max(read)
    assert sum(read[1:]) < 0.25 * read[0] * 5, "the others go on from what the first one read"
    assert len({said(events) for events in answers}) > 1, "each has a seed of its own"
    alone = list(model.answer(messages, sampling=hot, json_schema={"type": "integer", "minimum": 0}, max_tokens=300))
    assert said(alone) == said(answers[0]), "the first has the seed itself"


def test_as_many_answers_as_make_sense(model: ChatModel) -> None:
    for n in (0, 1000, True, 1.5):
        with pytest.raises(RunnerError, match="expected 1 to"):
            model.answers(QUESTION, n)  # type: ignore[arg-type]
    with pytest.raises(GrammarError):
        model.answers(QUESTION, 3, json_schema={"not": {}})
