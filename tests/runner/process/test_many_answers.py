"""Several answers from one process: its death is told to each, its memory does not grow, turns are read ahead."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemotron_gguf.models.gguf_values import u32
from nemotron_gguf.runner import Answer, AnyEvent, ChatModel, Done, EngineDiedError, Settings, open_model

SECONDS = 10  # of load; `bench/conversations.py` does the same for minutes


@pytest.fixture(scope="module")
def model(demo_q8: Path) -> Iterator[ChatModel]:
    with open_model(demo_q8, Settings(threads=1, temperature=0, parallel=4)) as opened:
        yield opened


@pytest.fixture(scope="module")
def endless(tiny_gguf: Callable[..., Path]) -> Iterator[ChatModel]:
    change = {"nemotron_h_moe.context_length": u32(1 << 20)}
    never_end = ((2, -1e9), (4, -1e9))  # </s>, <|im_end|>
    wishes = Settings(  # flash attention adds up in 16 bits on the processor, so that the order of cells matters
        threads=1, temperature=0, ctx_size=8192, parallel=4, logit_bias=never_end, flash_attn="off"
    )
    with open_model(tiny_gguf(change), wishes) as opened:
        yield opened


def said(events: list[AnyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer))


def pid(model: ChatModel) -> int:
    process = model.engine._process
    assert process
    return process.process.pid


def resident(number: int) -> int:
    """Bytes of a process's own memory that are in use."""
    status = Path(f"/proc/{number}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def settled(model: ChatModel, seconds: float = 20) -> None:
    """Wait until nothing is left to be done."""
    end = time.monotonic() + seconds
    while (found := model.occupancy()) and (found.waiting or found.reading or found.answering or found.ahead):
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_answers_stream_side_by_side(endless: ChatModel) -> None:
    streams = [endless.complete(letter, max_tokens=1500) for letter in "abcd"]  # long beside what waits at the start
    order: list[int] = []

    async def follow(place: int) -> None:
        async for event in streams[place]:
            if isinstance(event, Answer):
                order.append(place)  # noqa: PERF401 - as they come, not all at its end

    async def all_of_them() -> None:
        await asyncio.gather(*map(follow, range(4)))

    asyncio.run(all_of_them())
    assert {order.count(place) > 750 for place in range(4)} == {True}
    begun = max(order.index(place) for place in range(4))
    first_end = min(len(order) - 1 - order[::-1].index(place) for place in range(4))
    together = order[begun:first_end]
    assert len(together) > len(order) / 4, "most of the time all of them are under way"
    assert min(together.count(place) for place in range(4)) > len(together) / 8, "nobody has to wait for another"
    assert endless.occupancy().idle == 4


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_death_is_told_to_each(endless: ChatModel, number: signal.Signals) -> None:
    streams = [endless.complete(letter) for letter in "abcdef"]  # four answers, two that wait
    told: list[str] = []
    begun = threading.Barrier(5)

    def follow(place: int) -> None:
        try:
            for event in streams[place]:
                if isinstance(event, Answer) and begun.n_waiting < 4 and place < 4 and place not in arrived:
                    arrived.add(place)
                    begun.wait(20)
        except EngineDiedError as error:
            told.append(str(error))

    arrived: set[int] = set()
    threads = [threading.Thread(target=follow, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    begun.wait(20)
    os.kill(pid(endless), number)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert len(told) == 6, "each gets its error, once"
    assert len(set(told)) == 1
    assert isinstance(list(endless.complete("a", max_tokens=3))[-1], Done), "a fresh process is there"


def test_a_load_with_cancellations_leaves_nothing_behind(endless: ChatModel) -> None:
    texts = [f"{'word ' * length}{length}" for length in range(0, 120, 8)]
    expected = {text: said(list(endless.complete(text, max_tokens=24))) for text in texts}
    memory: list[int] = []
    problems: list[str] = []
    counts = {"stop": 0, "length": 0, "cancelled": 0, "tool_calls": 0}
    end = time.monotonic() + SECONDS

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < end:
            text = draw.choice(texts)
            stream = endless.complete(text, max_tokens=24)
            timer = threading.Timer(draw.random() * 0.2, stream.cancel) if draw.random() < 0.4 else None
            if timer:
                timer.start()
            events = list(stream)
            done = events[-1]
            if not isinstance(done, Done) or (done.finish_reason != "cancelled" and said(events) != expected[text]):
                problems.append(f"{text!r}: {events[-1]}")
            else:
                counts[done.finish_reason] += 1
            if timer:
                timer.cancel()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
        memory.append(resident(pid(endless)))
    for thread in threads:
        thread.join(20)
    assert problems == []
    assert counts["length"] > 50
    assert counts["cancelled"] > 5
    found = endless.occupancy()
    assert (found.idle, found.waiting, found.answering, found.reading) == (4, 0, 0, 0)
    assert max(memory[len(memory) // 2 :]) < min(memory[len(memory) // 4 :]) + (8 << 20), "memory stays as it is"


def test_a_conversation_is_read_ahead(model: ChatModel) -> None:
    talk = model.conversation(system="Be brief.")
    list(talk.send("What is 8 + 5?"))
    settled(model)
    *_, done = talk.send("What is 2 + 3?")
    assert isinstance(done, Done)
    new = model.count_tokens("What is 2 + 3?<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert done.usage.prompt_tokens - done.usage.cached_tokens == new


def test_reading_ahead_can_be_left_out(demo_q8: Path) -> None:
    with open_model(demo_q8, Settings(threads=1, temperature=0, idle_reading=False)) as model:
        talk = model.conversation()
        list(talk.send("What is 8 + 5?"))
        settled(model)
        *_, done = talk.send("What is 2 + 3?")
        assert isinstance(done, Done)
        assert done.usage.cached_tokens > 0, "the last common turn is still there"
        assert done.usage.prompt_tokens - done.usage.cached_tokens > 20, "the last answer is read when it is asked"


def test_conversations_in_many_threads(model: ChatModel) -> None:
    answers: list[str] = []

    def talk(number: int) -> None:
        conversation = model.conversation(thinking=False)
        for other in range(3):
            events = list(conversation.send(f"What is {number} + {other}?"))
            answers.append(f"{number} + {other}: {said(events)}")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(3, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    settled(model)
    assert sorted(answers) == sorted(f"{n} + {o}: {n} + {o} = {n + o}." for n in range(3, 9) for o in range(3))
