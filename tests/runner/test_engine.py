"""The engine on a tiny random model: what is reused, what is refused, how an answer ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemotron_gguf.models.gguf_values import boolean
from nemotron_gguf.runner import (
    Answer,
    ChatModel,
    Done,
    EngineBusyError,
    Reasoning,
    RunnerError,
    Sampling,
    Settings,
    library,
    open_model,
)
from nemotron_gguf.runner.engine import Engine, Progress
from nemotron_gguf.runner.vocabulary import Detokenizer

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def model(tiny_gguf: Callable[..., Path]) -> Iterator[ChatModel]:
    with open_model(tiny_gguf(), Settings(threads=1, temperature=0, ctx_size=512)) as opened:
        yield opened


@pytest.fixture
def engine(model: ChatModel) -> Engine:
    model.engine.context.clear()
    return model.engine


def run(engine: Engine, prompt: list[int], count: int = 8, sampling: Sampling = GREEDY) -> tuple[list[int], Progress]:
    progress = Progress()
    return list(engine.generate(prompt, sampling, count, progress=progress)), progress


def test_texts_come_back_whole(engine: Engine) -> None:
    text = "hello Grüße 你好 👋 \x00 tail"
    tokens = engine.vocabulary.encode(text)
    assert Detokenizer(engine.vocabulary).text(tokens) == text
    assert engine.vocabulary.tokenize("") == []


def test_control_tokens_are_text_only_where_wanted(engine: Engine) -> None:
    tokens = engine.vocabulary.encode("<|im_start|><think>a")
    assert len(tokens) == 3
    assert Detokenizer(engine.vocabulary, ["<think>"]).text(tokens) == "<think>a"


def test_what_was_read_is_not_read_again(engine: Engine) -> None:
    first = engine.vocabulary.encode("hello, how are you today?")
    said, progress = run(engine, first)
    assert (progress.prompt_tokens, progress.cached_tokens, progress.finish_reason) == (len(first), 0, "length")
    longer = first + said[:-1] + engine.vocabulary.encode("and more")
    again, progress = run(engine, longer)
    assert progress.cached_tokens == len(first) + len(said) - 1
    engine.context.clear()
    fresh, progress = run(engine, longer)
    assert progress.cached_tokens == 0
    assert again == fresh, "a continued memory and a fresh one say the same"


def test_a_recurrent_memory_is_never_rolled_back(engine: Engine) -> None:
    first = engine.vocabulary.encode("hello, how are you today?")
    expected, _ = run(engine, first)
    repeated, progress = run(engine, first)
    assert progress.cached_tokens == 0, "the answer lies behind the prompt in memory"
    assert repeated == expected
    _, progress = run(engine, first[:-3])
    assert progress.cached_tokens == 0


def test_a_long_prompt_is_read_in_parts_and_gives_the_same(tiny_gguf: Callable[..., Path]) -> None:
    with open_model(tiny_gguf(), Settings(threads=1, temperature=0, ctx_size=1024)) as opened:
        prompt = opened.engine.vocabulary.encode("abcdefghij" * 80)
        whole, _ = run(opened.engine, prompt)
        opened.engine.context.clear()
        opened.engine.context.step = 37
        assert run(opened.engine, prompt)[0] == whole


def test_the_end_of_the_context_is_the_end_of_the_answer(engine: Engine) -> None:
    prompt = engine.vocabulary.encode("a" * 505)
    said, progress = run(engine, prompt, count=100)
    assert progress.finish_reason == "length"
    assert len(said) == engine.context.size - len(prompt) + 1


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [([], "nothing to answer"), ([5] * 512, "--ctx-size"), ([5, 263], "263"), ([-1], "-1"), ([2**40], "vocabulary")],
)
def test_impossible_prompts_are_refused(engine: Engine, prompt: list[int], reason: str) -> None:
    with pytest.raises(RunnerError, match=reason):
        run(engine, prompt)
    assert run(engine, [7, 8, 9])[0], "and the engine goes on"


def test_a_seed_repeats_an_answer(engine: Engine) -> None:
    prompt = engine.vocabulary.encode("tell me")
    draws = [
        run(engine, prompt, 20, Sampling(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=s))[0] for s in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_an_answer_can_be_stopped_and_another_begun(engine: Engine) -> None:
    stop, progress, prompt = threading.Event(), Progress(), engine.vocabulary.encode("tell me")
    stream = engine.generate(prompt, GREEDY, 100, progress=progress, cancelled=stop)
    next(stream)
    with pytest.raises(EngineBusyError, match="busy"):
        next(engine.generate(prompt, GREEDY))
    stop.set()
    assert list(stream) == []
    assert progress.finish_reason == "cancelled"
    stop = threading.Event()
    stop.set()
    assert list(engine.generate(prompt, GREEDY, cancelled=stop)) == [], "stopped before the prompt was read"
    assert len(run(engine, prompt)[0]) == 8


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_an_error(tiny_gguf: Callable[..., Path], number: float) -> None:
    with open_model(tiny_gguf(fill={"output.weight": number}), Settings(threads=1)) as opened:
        for sampling in (GREEDY, Sampling()):
            with pytest.raises(RunnerError, match="instead of probabilities"):
                run(opened.engine, [7, 8, 9], sampling=sampling)


def test_bos_is_added_once(tiny_gguf: Callable[..., Path]) -> None:
    with open_model(tiny_gguf({"tokenizer.ggml.add_bos_token": boolean(True)}), Settings(threads=1)) as opened:
        vocabulary = opened.engine.vocabulary
        assert vocabulary.tokenize("<s>hi") == vocabulary.tokenize("hi") == [1, *vocabulary.encode("hi")]


def test_what_libllama_refuses_is_told_in_its_words(tiny_gguf: Callable[..., Path]) -> None:
    with pytest.raises(RunnerError, match="ssm_norm"):
        open_model(tiny_gguf(drop="blk.0.ssm_norm"))


def test_a_closed_model_says_so(tiny_gguf: Callable[..., Path]) -> None:
    opened = open_model(tiny_gguf(), Settings(threads=1))
    opened.close()
    opened.close()
    with pytest.raises(RunnerError, match="closed"):
        run(opened.engine, [5])


def test_an_attention_model_rolls_back() -> None:
    """The rule of reuse where memory can be cut: the common beginning stays, the last token is read again."""
    from nemotron_gguf.runner.context import Context

    class Llama:
        cut: int | None = None

        def llama_memory_seq_rm(self, _memory: object, _seq: int, start: int, _end: int) -> bool:
            self.cut = start
            return True

    context = object.__new__(Context)
    context.llama, context.memory, context.can_roll_back = Llama(), None, True
    context.tokens = [1, 2, 3, 4]
    assert context._keep([1, 2, 9, 9]) == 2
    assert (context.tokens, context.llama.cut) == ([1, 2], 2)
    context.tokens = [1, 2, 3]
    assert context._keep([1, 2, 3]) == 2


def test_a_conversation_remembers_and_counts(model: ChatModel) -> None:
    talk = model.conversation(system="Be brief.", thinking=False)
    talk.add_user("hello")
    events = list(talk.reply(max_tokens=6))
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.usage.completion_tokens, done.usage.reasoning_tokens, done.finish_reason) == (6, 0, "length")
    said = "".join(event.text for event in events if isinstance(event, Answer))
    assert talk.messages[-1] == {"role": "assistant", "content": said}
    assert talk.prompt().startswith("<|im_start|>system\nBe brief.")
    talk.thinking = True
    talk.add_user("and now?")
    events = list(talk.reply(max_tokens=6))
    assert isinstance(events[0], Reasoning)
    assert talk.messages[-1]["reasoning_content"]
    assert events[-1].usage.reasoning_tokens == 6  # type: ignore[union-attr]
    assert talk.undo() == "and now?"
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
    talk.clear()
    assert talk.undo() == ""


def test_a_stopped_answer_is_kept_as_far_as_it_went(model: ChatModel) -> None:
    talk = model.conversation(thinking=False)
    talk.add_user("hello")
    events = []
    for event in talk.reply():
        events.append(event)
        talk.stop()
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "cancelled"
    assert talk.messages[-1]["content"]


def test_a_conversation_that_does_not_fit_is_refused_and_can_be_taken_back(model: ChatModel) -> None:
    talk = model.conversation()
    talk.add_user("x" * 600)
    with pytest.raises(RunnerError, match="larger --ctx-size"):
        list(talk.reply())
    assert talk.undo() == "x" * 600
    talk.add_user("\udcff lone surrogate")
    assert isinstance(list(talk.reply(max_tokens=2))[-1], Done)


def test_the_library_is_quiet(model: ChatModel, capfd: pytest.CaptureFixture[str]) -> None:
    library()
    run(model.engine, [5, 6, 7])
    assert capfd.readouterr() == ("", "")
