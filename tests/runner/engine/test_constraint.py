"""Answers in a form: every one satisfies it, whatever is drawn; the reasoning before it stays free."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest

from nemotron_gguf.runner import Drawn, GrammarError, Sampling
from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.engine import matcher as matchers
from nemotron_gguf.runner.engine.matcher import NOWHERE, Matcher
from nemotron_gguf.runner.engine.spellings import Spellings, spellings
from nemotron_gguf.runner.grammar.graph import Grammar
from nemotron_gguf.runner.grammar.wish import grammar_of
from nemotron_gguf.tests.runner.grammar.schemas import COUNT, PERSON, all_schemas

if TYPE_CHECKING:
    from nemotron_gguf.tests.runner.engine.conftest import Bare

SCHEMAS = all_schemas()
HOT = Sampling(temperature=2, top_k=0, top_p=1, min_p=0)
THINKS = ChatFormat(thinking=True, tools="none", may_open=False)
QUESTION = "<|im_start|>user\nWhat is 8 + 5?<|im_end|>\n<|im_start|>assistant\n<think>\n"


@pytest.fixture(scope="module")
def wordy(bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]) -> Bare:
    """A model of random weights with room for long answers; its vocabulary are the bytes."""
    return bares(tiny_gguf(), ctx_size=1024)


def form(schema: Any, opening: str | None = None) -> Grammar:
    grammar = grammar_of(None, schema, opening)
    assert grammar
    return grammar


@pytest.mark.parametrize("number", range(COUNT))
def test_every_answer_satisfies_its_schema(wordy: Bare, number: int) -> None:
    schema = SCHEMAS[number]
    # a blank is never likely in JSON, and a random model would write little else than characters of every script
    calm = tuple((token, 6.0) for token in wordy.vocabulary.single('",}]0123456789abc'))
    sampling = replace(HOT, seed=number, logit_bias=calm)
    _, said, done = wordy.ask([7, 8, 9], sampling, grammar=form(schema), max_tokens=900)
    is_old = isinstance(schema, dict) and schema.get("exclusiveMinimum") is True
    kind = jsonschema.Draft4Validator if is_old else jsonschema.Draft202012Validator
    assert done.finish_reason == "stop", said
    kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(said))


LIKELY: list[Any] = [
    {"type": "object", "properties": {"sum": {"type": "integer", "maximum": 99}, "sure": {"type": "boolean"}},
     "required": ["sum", "sure"]},
    {"type": "array", "items": {"type": "number", "minimum": 0.5, "maximum": 2}, "minItems": 2, "maxItems": 3},
    {"type": "string", "pattern": "^[a-z]{3,8}$"},
]  # fmt: skip


@pytest.mark.parametrize("schema", LIKELY)
def test_the_likeliest_answer_is_right_too(demo: Bare, schema: Any) -> None:
    _, said, done = demo.ask(QUESTION + "</think>", grammar=form(schema), max_tokens=200)
    assert done.finish_reason == "stop"
    jsonschema.validate(json.loads(said), schema)


def test_the_reasoning_stays_free(demo: Bare) -> None:
    free = demo.ask(QUESTION, format=THINKS)
    thought, said, done = demo.ask(QUESTION, format=THINKS, grammar=form({"type": "integer", "maximum": 99}, ""))
    assert thought == free[0]
    assert "8 + 5 = 13" in thought
    assert isinstance(json.loads(said), int)
    assert done.usage.reasoning_tokens == free[2].usage.reasoning_tokens


@pytest.mark.parametrize("budget", [0, 3])
def test_a_reasoning_that_is_cut_is_followed_by_the_form(demo: Bare, budget: int) -> None:
    _, said, done = demo.ask(
        QUESTION, format=THINKS, grammar=form({"enum": ["yes", "no"]}, ""), reasoning_budget=budget
    )
    assert said in ('"yes"', '"no"')
    assert done.usage.reasoning_tokens == budget


def test_a_model_that_never_closes_its_reasoning_still_answers(wordy: Bare) -> None:
    """It draws at random, so that it would end, or begin with anything; its marks are spelled in letters."""
    spelled = ChatFormat(thinking=True, begin="<", end=">", close="\n>\n", tools="none", may_open=False)
    for seed in range(12):
        sampling = replace(HOT, seed=seed)
        _, said, done = wordy.ask(
            [7], sampling, format=spelled, grammar=form({"enum": ["yes", "no"]}, ""), max_tokens=60
        )
        assert said in ('"yes"', '"no"')
        assert done.finish_reason == "stop"


def test_an_answer_may_begin_with_a_reasoning_of_its_own(wordy: Bare) -> None:
    opens = ChatFormat(begin="ab", end="c", close="\nc\n", close_empty="c", tools="none", may_open=True)
    grammar = form({"const": 5}, "ab")
    (a,) = wordy.vocabulary.encode("a")
    kinds = set()
    for seed in range(20):
        sampling = replace(HOT, seed=seed, logit_bias=((a, 6.0),))
        thought, said, _ = wordy.ask([7], sampling, format=opens, grammar=grammar, max_tokens=80)
        assert said == "5"
        kinds.add(bool(thought))
    assert kinds == {True, False}


def test_the_text_can_still_be_cut(wordy: Bare) -> None:
    grammar = form({"type": "array", "items": {"const": 1}, "minItems": 100})
    _, said, done = wordy.ask([7], HOT, grammar=grammar, max_tokens=5)
    assert (len(said), done.finish_reason) == (5, "length")
    _, said, done = wordy.ask([7], HOT, grammar=grammar, stop=("1",))
    assert ("1" in said, done.finish_reason) == (False, "stop")


def test_a_seed_and_the_logprobs_are_as_ever(wordy: Bare) -> None:
    sampling = replace(HOT, seed=4, repeat_penalty=1.3, repeat_last_n=20)
    runs = [
        [
            event
            for step in wordy.steps([7], sampling, grammar=form(PERSON), top_logprobs=2, max_tokens=900)
            for event in step
        ]
        for _ in range(2)
    ]
    drawn = [[event for event in events if isinstance(event, Drawn)] for events in runs]
    assert drawn[0] == drawn[1]
    jsonschema.validate(json.loads(b"".join(event.token.raw for event in drawn[0])), PERSON)
    assert all(event.token.logprob <= event.top[0].logprob for event in drawn[0]), "they are the model's, of all tokens"
    assert any(event.token != event.top[0] for event in drawn[0])


def test_answers_of_several_forms_go_side_by_side(bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]) -> None:
    bare = bares(tiny_gguf(), ctx_size=1024, parallel=4)
    forms = [form({"enum": [f"answer {at}"]}) for at in range(4)]
    numbers = [bare.begin([7, 8], HOT, grammar=grammar) for grammar in forms]
    bare.run()
    said = ["".join(getattr(event, "text", "") for event in bare.sent[number]) for number in numbers]
    assert said == [f'"answer {at}"' for at in range(4)]


def test_a_hostile_grammar_is_the_end_of_its_answer_alone(wordy: Bare) -> None:
    grammar = grammar_of('root ::= ("[" root "]" | "[" root "]" "x" | "[" root "]" "y"){1,9} | "q" [^q]', None)
    sampling = replace(HOT, logit_bias=tuple((token, 50.0) for token in wordy.vocabulary.encode("[")))
    with pytest.raises(GrammarError, match=r"ways to read|too much work"):
        wordy.ask([7], sampling, grammar=grammar, max_tokens=200)
    assert wordy.ask([7], HOT, grammar=form({"const": 1}))[1] == "1"


def test_what_the_vocabulary_cannot_say_is_an_error(bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]) -> None:
    bare = bares(tiny_gguf())
    never = tuple((token, -float("inf")) for token in bare.vocabulary.encode("5"))
    with pytest.raises(GrammarError, match="no token of the model's vocabulary"):
        bare.ask([7], replace(HOT, logit_bias=never), grammar=form({"const": 5}))


WORDS = [
    "a",
    "ab",
    "abc",
    "b",
    "é",
    "é"[:1],
    "你",
    "你好",
    "[",
    "[[",
    '"',
    '",',
    '{"',
    "}",
    "1",
    "12",
    "1.5",
    " ",
    "\n ",
    "",
]


def words(seed: int) -> list[bytes]:
    """A vocabulary with halves of characters, and some tokens that say nothing."""
    draw = random.Random(seed)
    pieces = [word.encode() for word in WORDS] + [bytes([byte]) for byte in range(256)]
    pieces += ["".join(draw.choice('ab[]{}",:1 é你') for _ in range(draw.randrange(1, 7))).encode() for _ in range(300)]
    return [*pieces, *(piece[: draw.randrange(1, 4)] for piece in pieces if len(piece) > 3)]


@pytest.mark.parametrize("number", range(0, COUNT, 9))
def test_all_tokens_at_once_or_one_by_one(number: int) -> None:
    pieces = words(number)
    spelled, draw = Spellings(pieces, [3]), random.Random(number)
    matcher = Matcher(form(SCHEMAS[number]))
    state = matcher.root
    for _ in range(12):
        mask = matcher.mask(state, spelled)
        one_by_one = [bool(piece) and matcher.run(state, piece) != NOWHERE for piece in pieces]
        assert mask.tolist() == one_by_one
        choices = np.flatnonzero(mask)
        if not choices.size:
            assert matcher.is_over(state)
            break
        state = matcher.run(state, pieces[int(draw.choice(choices.tolist()))])


def test_an_automaton_that_grows_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matchers, "MAX_STATES", 100)
    grammar = form({"type": "array", "items": {"enum": [[], 1]}, "minItems": 1000, "maxItems": 1000})
    shared = Matcher(grammar)
    matcher, state = shared, shared.run(shared.root, b"[")
    for _ in range(999):
        matcher, state = matcher.settled(matcher.run(state, b"1,"))
        assert state != NOWHERE
    assert matcher is not shared
    assert max(len(shared.ways), len(matcher.ways)) < 110
    assert matcher.run(state, b"]") == NOWHERE, "it goes on where the other was"
    assert matcher.is_over(matcher.run(state, b"[]]"))


def test_spellings_are_the_vocabularys(wordy: Bare) -> None:
    found: Iterator[Spellings | None] = spellings(wordy.vocabulary)
    spelled = next(one for one in found if one)
    for place in range(0, len(spelled.tokens), 7):
        token, start = int(spelled.tokens[place]), int(spelled.starts[place])
        raw = spelled.data[start : start + int(spelled.lengths[place])].tobytes()
        assert raw == wordy.vocabulary.piece(token)
        assert spelled.groups[raw[0]] <= place < spelled.groups[raw[0] + 1]
    assert {int(token) for token in spelled.ends} == {t for t in range(spelled.size) if wordy.vocabulary.is_end(t)}
    assert not {int(token) for token in spelled.tokens} & set(wordy.vocabulary.single(["<think>", "<|im_end|>"]))
