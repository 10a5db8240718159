"""What is kept in memory, what is read again, and what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nemotron_gguf.models.gguf_values import boolean
from nemotron_gguf.runner import ContextOverflowError, PromptProgress, RunnerError
from nemotron_gguf.runner.engine import loading, vocabulary
from nemotron_gguf.runner.engine.vocabulary import Detokenizer
from nemotron_gguf.tests.runner.engine.conftest import Bare


def test_texts_come_back_whole(tiny: Bare) -> None:
    text = "hello Grüße 你好 👋 \x00 tail"
    tokens = tiny.vocabulary.encode(text)
    assert Detokenizer(tiny.vocabulary).text(tokens) == text
    assert tiny.vocabulary.tokenize("") == []


def test_control_tokens_are_text_only_where_wanted(tiny: Bare) -> None:
    tokens = tiny.vocabulary.encode("<|im_start|><think>a")
    assert len(tokens) == 3
    assert Detokenizer(tiny.vocabulary, ["<think>"]).text(tokens) == "<think>a"


def test_a_long_text_with_many_marks_is_the_same_in_parts(demo: Bare) -> None:
    text = "What is GGUF? <|im_end|>\n<|im_start|>user\n 你好  \n" * 1500
    parts = list(demo.vocabulary._parts(text))
    assert len(parts) > 5
    assert "".join(parts) == text
    assert demo.vocabulary.tokenize(text) == demo.vocabulary.encode(text)
    assert list(demo.vocabulary._parts("a" * 100_000)) == ["a" * 100_000]


def test_the_beginning_of_a_long_conversation_is_not_taken_apart_again(
    demo: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [f"<|im_start|>user\n{number} and some more words<|im_end|>\n" for number in range(2000)]
    text = "".join(turns)
    encode, read = demo.vocabulary.encode, list[str]()

    def noted(part: str, special: bool = True) -> list[int]:
        read.append(part)
        return encode(part, special)

    monkeypatch.setattr(demo.vocabulary, "encode", noted)
    first = demo.vocabulary.tokenize(text)
    assert sum(map(len, read)) == len(text)
    read.clear()
    longer = demo.vocabulary.tokenize(text + turns[0])
    assert sum(map(len, read)) < len(text) / 8
    assert longer == encode(text + turns[0])
    assert longer[: len(first)] == first
    monkeypatch.setattr(vocabulary, "REMEMBERED", len(text) // 2)
    other = "<|im_start|>system\n<|im_end|>\n" + text
    assert demo.vocabulary.tokenize(other) == encode(other)
    assert demo.vocabulary._read_chars == sum(len(part) for part, _ in demo.vocabulary._read) <= len(text) // 2


def test_a_prompt_is_refused_before_all_of_it_is_taken_apart(demo: Bare) -> None:
    begun = time.monotonic()
    with pytest.raises(ContextOverflowError, match="more than"):
        demo.ask("hello <|im_end|>\n" * 60_000)
    assert time.monotonic() - begun < 3


def test_taking_a_prompt_apart_can_be_stopped(demo: Bare) -> None:
    (done,) = next(demo.steps("hello <|im_end|>\n" * 3000, cancelled=lambda: True))
    assert done.usage.completion_tokens == 0  # type: ignore[union-attr]
    assert done.finish_reason == "cancelled"  # type: ignore[union-attr]


def test_bos_is_added_once(bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]) -> None:
    vocabulary = bares(tiny_gguf({"tokenizer.ggml.add_bos_token": boolean(True)})).vocabulary
    assert vocabulary.tokenize("<s>hi") == vocabulary.tokenize("hi") == [1, *vocabulary.encode("hi")]


def test_what_was_read_is_not_read_again(tiny: Bare) -> None:
    first = tiny.vocabulary.encode("hello, how are you today?")
    _, said, done = tiny.ask(first, max_tokens=8)
    assert (done.usage.prompt_tokens, done.usage.cached_tokens, done.finish_reason) == (len(first), 0, "length")
    in_memory = list(tiny.tokens)
    assert in_memory[: len(first)] == first
    assert len(in_memory) == len(first) + 7, "the last token was drawn and not read"
    longer = in_memory + tiny.vocabulary.encode("and more")
    _, again, done = tiny.ask(longer, max_tokens=8)
    assert done.usage.cached_tokens == len(in_memory)
    tiny.clear()
    _, fresh, done = tiny.ask(longer, max_tokens=8)
    assert done.usage.cached_tokens == 0
    assert again == fresh, "a continued memory and a fresh one say the same"
    assert said


def test_a_recurrent_memory_is_never_rolled_back(tiny: Bare) -> None:
    first = tiny.vocabulary.encode("hello, how are you today?")
    _, expected, _ = tiny.ask(first, max_tokens=8)
    _, repeated, done = tiny.ask(first, max_tokens=8)
    assert done.usage.cached_tokens == 0, "the answer lies behind the prompt in memory"
    assert repeated == expected
    assert tiny.ask(first[:-3], max_tokens=8)[2].usage.cached_tokens == 0


def test_a_long_prompt_is_read_in_parts_that_are_told(
    bares: Callable[..., Bare], tiny_gguf: Callable[..., Path]
) -> None:
    bare = bares(tiny_gguf(), ctx_size=1024)
    prompt = bare.vocabulary.encode("abcdefghij" * 80)
    _, whole, _ = bare.ask(prompt, max_tokens=8)
    bare.clear()
    bare.scheduler.pace.most = 37
    steps = [event for step in bare.steps(prompt, max_tokens=8) for event in step]
    told = [event.done for event in steps if isinstance(event, PromptProgress)]
    assert told == [*range(0, 800, 37), 800]
    bare.clear()
    assert bare.ask(prompt, max_tokens=8)[1] == whole


def test_the_end_of_the_context_is_the_end_of_the_answer(tiny: Bare) -> None:
    prompt = tiny.vocabulary.encode("a" * 505)
    _, _, done = tiny.ask(prompt, max_tokens=100)
    assert done.finish_reason == "length"
    assert done.usage.completion_tokens == tiny.context.size - len(prompt) + 1
    assert done.context_used == done.context_size == 512


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [([], "nothing to answer"), ([5] * 512, "--ctx-size"), ([5, 263], "263"), ([-1], "-1"), ([2**30], "vocabulary")],
)
def test_impossible_prompts_are_refused(tiny: Bare, prompt: list[int], reason: str) -> None:
    with pytest.raises(RunnerError, match=reason):
        tiny.ask(prompt)
    assert tiny.ask([7, 8, 9], max_tokens=8)[2].usage.completion_tokens == 8, "and the engine goes on"


def test_room_for_an_answer_can_be_asked_for(tiny: Bare) -> None:
    prompt = [5] * 400
    assert tiny.ask(prompt, max_tokens=1, room=112)[2].finish_reason == "length"
    with pytest.raises(ContextOverflowError, match="400 tokens"):
        tiny.ask(prompt, max_tokens=1, room=113)


def test_reading_can_be_stopped_in_the_middle(tiny: Bare) -> None:
    stop = threading.Event()
    steps = tiny.steps([5] * 500, cancelled=stop.is_set)
    tiny.scheduler.pace.most, most = 100, tiny.scheduler.pace.most
    try:
        begun = next(steps)
        stop.set()
        (done,) = next(steps)
    finally:
        tiny.scheduler.pace.most = most
    assert [event.done for event in begun] == [0, 100]  # type: ignore[union-attr]
    assert done.finish_reason == "cancelled"  # type: ignore[union-attr]
    assert len(tiny.tokens) == 100


def test_a_freed_model_leaves_nothing_behind(tiny_gguf: Callable[..., Path]) -> None:
    before = dict(loading._kept)
    for _ in range(3):
        Bare(tiny_gguf(), ctx_size=64).model.close()
    assert loading._kept == before
