"""A conversation with the demo model: what it remembers, how it ends, what happens when the context is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemotron_gguf.runner import (
    Answer,
    AnyEvent,
    Begun,
    ChatModel,
    ContextOverflowError,
    Done,
    Reasoning,
    Settings,
    ToolCall,
    TurnsDropped,
    open_model,
)

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def model(demo_q8: Path) -> Iterator[ChatModel]:
    with open_model(demo_q8, Settings(threads=1, temperature=0)) as opened:
        yield opened


@pytest.fixture(scope="module")
def forgetful(demo_q8: Path) -> Iterator[ChatModel]:
    wishes = Settings(threads=1, temperature=0, ctx_size=256, max_tokens=48, context_overflow="drop-oldest")
    with open_model(demo_q8, wishes) as opened:
        yield opened


def said(events: list[AnyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer))


def test_a_conversation_remembers(model: ChatModel) -> None:
    talk = model.conversation(thinking=False)
    list(talk.send("My name is Ada."))
    events = list(talk.send("What is my name?"))
    assert "Ada" in said(events)
    assert not any(isinstance(event, Reasoning) for event in events)
    assert [message["role"] for message in talk.messages] == ["user", "assistant"] * 2
    assert talk.messages[-1] == {"role": "assistant", "content": said(events)}
    assert talk.undo() == "What is my name?"
    assert len(talk.messages) == 2
    talk.clear()
    assert talk.undo() == ""


def test_thinking_is_kept_beside_the_answer(model: ChatModel) -> None:
    talk = model.conversation(system="Be brief.")
    *events, done = talk.send("What is 8 + 5?")
    thought = "".join(event.text for event in events if isinstance(event, Reasoning))
    assert talk.messages[-1] == {"role": "assistant", "content": "8 + 5 = 13.", "reasoning_content": thought}
    assert isinstance(done, Done)
    assert done.usage.reasoning_tokens > 5
    assert done.timings.first_token_seconds > 0
    assert 0 < done.timings.decode_seconds < done.timings.generation_seconds
    assert (done.context_used, done.context_size) == (
        done.usage.prompt_tokens + done.usage.completion_tokens,
        4096,
    )


@pytest.mark.parametrize(("budget", "tokens"), [(0, 0), (3, 3), (10, 10)])
def test_a_budget_holds_and_the_answer_follows(model: ChatModel, budget: int, tokens: int) -> None:
    talk = model.conversation(budget=budget)
    events = list(talk.send("What is 8 + 5?"))
    done = events[-1]
    assert isinstance(done, Done)
    assert done.usage.reasoning_tokens == tokens
    assert said(events) == "8 + 5 = 13."
    assert (budget == 0) == (done.usage.forced_tokens == 0), "no budget at all is thinking switched off"


def test_a_tool_is_called_and_its_result_read(model: ChatModel) -> None:
    talk = model.conversation(tools=[TOOL], thinking=False)
    events = list(talk.send("What is the weather in Paris?"))
    done = events[-1]
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", {"city": "Paris"})]
    assert isinstance(done, Done)
    assert done.finish_reason == "tool_calls"
    talk.add_tool_result("sunny, 21 degrees")
    assert "21" in said(list(talk.reply())) or "sunny" in said(list(talk.reply()))


def test_a_stopped_answer_is_kept_as_far_as_it_went(model: ChatModel) -> None:
    talk = model.conversation(thinking=False)
    talk.add_user("What does the convert room do?")
    events = []
    for event in talk.reply():
        events.append(event)
        if isinstance(event, Answer):
            talk.stop()
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "cancelled"
    assert talk.messages[-1]["content"] == said(events)


def test_an_async_answer_that_is_left_keeps_its_place(model: ChatModel) -> None:
    async def go() -> list[str]:
        talk = model.conversation(thinking=False)
        talk.add_user("What does the convert room do?")
        async for event in talk.areply():
            if isinstance(event, Answer):
                break
        talk.add_user("What is 8 + 5?")
        async for _ in talk.areply():
            pass
        return [message["role"] for message in talk.messages]

    assert asyncio.run(go()) == ["user", "assistant"] * 2


def test_what_got_no_answer_is_one_message_with_the_next(model: ChatModel) -> None:
    talk = model.conversation(thinking=False)
    for event in talk.send("What is 8 + 5?"):
        if not isinstance(event, Answer):
            break
    assert [message["role"] for message in talk.messages] == ["user"]
    assert said(list(talk.send("Only the sum, please.")))
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]
    assert talk.messages[0]["content"] == "What is 8 + 5?\n\nOnly the sum, please."
    assert talk.undo() == "What is 8 + 5?\n\nOnly the sum, please."


def test_thinking_can_be_stopped(model: ChatModel) -> None:
    talk = model.conversation()
    talk.add_user("What is 8 + 5?")
    events = []
    for event in talk.reply():
        events.append(event)
        if isinstance(event, Reasoning):
            talk.stop_thinking()
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert said(events) == "8 + 5 = 13."


def test_a_conversation_that_does_not_fit_is_refused_and_can_be_taken_back(demo_q8: Path) -> None:
    with open_model(demo_q8, Settings(threads=1, ctx_size=128)) as model:
        talk = model.conversation()
        with pytest.raises(ContextOverflowError, match="larger --ctx-size"):
            list(talk.send("x " * 600))
        assert talk.messages == [{"role": "user", "content": "x " * 600}]
        assert talk.undo() == "x " * 600
        talk.add_user("\udcff lone surrogate")
        assert isinstance(list(talk.reply(max_tokens=2))[-1], Done)


def test_the_oldest_turns_are_dropped_where_that_is_wished(forgetful: ChatModel) -> None:
    talk = forgetful.conversation(system="Be brief.", thinking=False)
    dropped = 0
    for number in range(12):
        events = list(talk.send(f"What is {number % 5 + 4} + 2?"))
        dropped += sum(event.count for event in events if isinstance(event, TurnsDropped))
        done = events[-1]
        assert isinstance(done, Done)
        assert done.finish_reason == "stop"
        assert said(events).startswith(f"{number % 5 + 4} + 2 = "), "the question is the last that it read"
    assert dropped >= 3
    assert talk.n_dropped == 2 * dropped
    assert len(talk.messages) == 24, "they are kept for whoever shows them"
    talk.undo()
    assert talk.n_dropped == 0
    with pytest.raises(ContextOverflowError):
        list(talk.send("word " * 600))


def test_the_front_is_quiet(model: ChatModel, capfd: pytest.CaptureFixture[str]) -> None:
    list(model.complete([5, 6, 7], max_tokens=2))
    assert capfd.readouterr() == ("", "")


def test_a_text_is_gone_on_with(model: ChatModel, tiny_gguf: Callable[..., Path]) -> None:
    events = list(model.complete("<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n<think></think>"))
    assert said(events) == "2 + 3 = 5."
    with open_model(tiny_gguf(), Settings(threads=1, temperature=0)) as random:
        long = list(random.complete("a", max_tokens=30))
        assert len(said(long)) > 5
        assert said(list(random.complete("a", max_tokens=30, stop=[said(long)[3:5]]))) == said(long)[:3]


@pytest.mark.parametrize(("thinking", "n_tokens"), [(False, 4), (False, 40), (True, 40)])
def test_a_cut_answer_goes_on(model: ChatModel, thinking: bool, n_tokens: int) -> None:
    """What was cut and what follows are the answer that would have come at once."""
    whole = model.conversation(thinking=thinking)
    list(whole.send("What is GGUF?"))
    cut = model.conversation(thinking=thinking)
    list(cut.send("What is GGUF?", max_tokens=n_tokens))
    half = cut.messages.pop()
    begun = Begun(half.get("reasoning_content", ""), half["content"])
    events = list(cut.reply(begun=begun))
    assert cut.messages == whole.messages
    thought = begun.reasoning + "".join(event.text for event in events if isinstance(event, Reasoning))
    assert cut.messages[-1].get("reasoning_content", "") == thought
    assert cut.messages[-1]["content"] == begun.answer + said(events)
