"""The engine's process may die in any way: the front is told in one sentence and goes on. And it never outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.models.gguf_values import u32
from nemotron_gguf.runner import (
    Answer,
    AnyEvent,
    ChatModel,
    Client,
    Done,
    EngineBusyError,
    EngineDiedError,
    PromptProgress,
    Reasoning,
    RunnerError,
    Sampling,
    Settings,
    aopen_model,
    open_model,
)
from nemotron_gguf.runner.engine import queue
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.messages import Generate, Load

ASK = [{"role": "user", "content": "What is 8 + 5?"}]
SMALL = Placement(ctx_size=256, threads=1)


@pytest.fixture(scope="module")
def model(demo_q8: Path) -> Iterator[ChatModel]:
    with open_model(demo_q8, Settings(threads=1, temperature=0)) as opened:
        yield opened


@pytest.fixture(scope="module")
def slow(tiny_gguf: Callable[..., Path]) -> Iterator[ChatModel]:
    """A model that never stops talking."""
    change = {"nemotron_h_moe.context_length": u32(1 << 20)}
    never_end = ((2, -1e9), (4, -1e9))  # </s>, <|im_end|>
    with open_model(tiny_gguf(change), Settings(threads=1, ctx_size=60000, logit_bias=never_end)) as opened:
        yield opened


def text_of(events: list[AnyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer))


def pid(model: ChatModel) -> int:
    process = model.engine._process
    assert process
    return process.process.pid


def gone(number: int, seconds: float = 10) -> bool:
    """Whether a process is no more (a zombie of somebody else's is as good)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(number, 0)
            if Path("/proc").is_dir() and Path(f"/proc/{number}/stat").read_text().split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):  # between the two questions it may have ended
            return True
        time.sleep(0.02)
    return False


def test_an_answer_comes_from_another_process(model: ChatModel) -> None:
    events = list(model.answer(ASK))
    assert text_of(events) == "8 + 5 = 13."
    assert isinstance(events[-1], Done)
    assert pid(model) != os.getpid()
    front = "import sys; from nemotron_gguf.runner import open_model\n"
    front += "with open_model(sys.argv[1]) as m:\n    list(m.answer([{'role': 'user', 'content': 'hi'}]))\n"
    front += "print({'llama_cpp', 'torch', 'gradio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", front, model.file.path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()", "the front loads no libllama"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGTERM])
def test_a_death_costs_one_answer(model: ChatModel, number: signal.Signals) -> None:
    stream = model.answer(ASK)
    assert isinstance(next(iter(stream)), PromptProgress)
    stream = model.answer(ASK)
    victim = pid(model)
    os.kill(victim, number)
    with pytest.raises(EngineDiedError) as caught:
        list(stream)
    told = str(caught.value)
    assert "\n" not in told
    assert "ask again" in told
    assert ("killed" in told) == (number == signal.SIGKILL)
    assert text_of(list(model.answer(ASK))) == "8 + 5 = 13.", "a fresh one has taken its place"
    assert pid(model) != victim


def test_a_death_between_two_answers_is_not_noticed(model: ChatModel) -> None:
    os.kill(pid(model), signal.SIGKILL)
    assert gone(pid(model))
    assert text_of(list(model.answer(ASK))) == "8 + 5 = 13."


def asking(model: ChatModel, **options: Any) -> tuple[threading.Thread, list[str]]:
    """A thread that asks, and what it is told where it gets no answer."""
    told: list[str] = []

    def ask() -> None:
        try:
            model.answer(ASK, **options)
        except RunnerError as error:
            told.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, told


def test_nobody_who_stops_waits_for_a_fresh_process(model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model takes minutes to be loaded again; it goes on for those who still want it."""
    load, begun, go = Client._load_again, threading.Event(), threading.Event()

    def slowly(client: Client, on_progress: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return load(client, on_progress)

    monkeypatch.setattr(Client, "_load_again", slowly)
    os.kill(pid(model), signal.SIGKILL)
    assert gone(pid(model))
    stopped = threading.Event()
    thread, told = asking(model, cancelled=stopped)
    assert begun.wait(60)
    stopped.set()
    thread.join(60)
    assert not thread.is_alive()
    assert "stopped" in told[0]
    go.set()
    assert text_of(list(model.answer(ASK))) == "8 + 5 = 13."


def test_closing_does_not_wait_for_a_fresh_process(demo_q8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    ask = Client._ask

    def slowly(client: Client, task: Any, *given: Any) -> Any:
        if isinstance(task, Load):
            begun.set()
            client._process.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]  # it never answers
        return ask(client, task, *given)

    opened = open_model(demo_q8, Settings(threads=1))
    monkeypatch.setattr(Client, "_ask", slowly)
    os.kill(pid(opened), signal.SIGKILL)
    assert gone(pid(opened))
    thread, told = asking(opened)
    assert begun.wait(60)
    opened.close()
    thread.join(60)
    assert not thread.is_alive()
    assert told


def test_an_abort_inside_libllama_is_one_sentence(tiny_gguf: Callable[..., Path]) -> None:
    """The preflight refuses such a file; the process is what saves us from those that it does not know."""
    bad = tiny_gguf({"nemotron_h_moe.expert_used_count": u32(9)})
    with Client() as client:
        with pytest.raises(EngineDiedError, match="GGML_ASSERT") as caught:
            client.load(bad, SMALL)
        assert "\n" not in str(caught.value)
        assert client.load(tiny_gguf(), SMALL).context_size == 256


def test_what_libllama_refuses_is_told_in_its_words(tiny_gguf: Callable[..., Path]) -> None:
    with Client() as client:
        with pytest.raises(RunnerError, match="ssm_norm"):
            client.load(tiny_gguf(drop="blk.0.ssm_norm"), SMALL)
        client.load(tiny_gguf(), SMALL)


def test_a_conversation_survives(model: ChatModel) -> None:
    talk = model.conversation(thinking=False)
    assert text_of(list(talk.send("My name is Ada."))) != ""
    talk.add_user("What is my name?")
    for _ in talk.reply():
        os.kill(pid(model), signal.SIGKILL)
        break
    said = talk.undo()
    assert said == "What is my name?"
    assert "Ada" in text_of(list(talk.send(said)))


def test_the_engine_dies_with_its_front(slow: ChatModel) -> None:
    script = (
        "import sys\nfrom nemotron_gguf.runner import Settings, open_model\n"
        "model = open_model(sys.argv[1], Settings(threads=1, ctx_size=60000))\n"
        "for event in model.complete('a'):\n"
        "    print(model.engine._process.process.pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, slow.file.path], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout
        child = int(front.stdout.readline())
        front.kill()
    assert gone(child)


def test_closing_leaves_no_process(tiny_gguf: Callable[..., Path]) -> None:
    opened = open_model(tiny_gguf(), Settings(threads=1))
    child = pid(opened)
    opened.close()
    opened.close()
    assert gone(child, 0.1)
    with pytest.raises(RunnerError, match="closed"):
        opened.complete("a")


def test_a_failed_opening_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(Exception, match=r"magic|begins"):
        open_model(write(tmp_path / "x.gguf", b"nothing that is a model, at all"))
    assert children() == before


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def children() -> set[int]:
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")  # of each thread
    return {int(number) for path in found for number in path.read_text().split()}


def test_who_comes_later_waits(slow: ChatModel) -> None:
    stream = slow.complete("a")
    waiting = slow.complete("b", max_tokens=3)
    assert (slow.occupancy().waiting, slow.occupancy().answering) == (1, 1)
    assert slow.count_tokens("abc") == 3, "small questions are answered in between"
    gone = slow.complete("c")
    gone.cancel()
    done = list(gone)[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "cancelled", "one that waits is ended at once"
    stream.close()
    assert isinstance(list(waiting)[-1], Done)
    assert slow.occupancy().idle == slow.occupancy().sequences == 1


def test_of_those_that_wait_there_may_be_so_many(slow: ChatModel) -> None:
    streams = [slow.complete("a") for _ in range(queue.LONGEST + 1)]
    with pytest.raises(EngineBusyError, match=f"{queue.LONGEST} requests wait"):
        slow.complete("b")
    for stream in reversed(streams):
        stream.cancel()
    for stream in streams:
        assert isinstance(list(stream)[-1], Done)
    assert slow.occupancy().waiting == 0


def test_who_stops_iterating_frees_the_engine(slow: ChatModel) -> None:
    for _ in range(3):
        for event in slow.complete("a"):
            if isinstance(event, Answer):
                break
    assert len(list(slow.complete("b", max_tokens=3))) >= 3


def test_a_cancelled_answer_ends_within_a_batch(slow: ChatModel) -> None:
    stream = slow.complete("x" * 50000)
    begun = time.monotonic()
    threading.Timer(0.2, stream.cancel).start()
    events = list(stream)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "cancelled"
    progress = [event for event in events if isinstance(event, PromptProgress)]
    assert progress[-1].done < progress[-1].total == 50000
    assert time.monotonic() - begun < 5
    assert done.usage.completion_tokens == 0


def test_an_event_loop_is_not_held_up(model: ChatModel) -> None:
    async def talk() -> tuple[list[AnyEvent], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        events = [event async for event in model.answer(ASK, thinking=True)]
        ticking.cancel()
        return events, ticks

    events, ticks = asyncio.run(talk())
    assert text_of(events) == "8 + 5 = 13."
    assert ticks >= 5


async def longest_pause(work: Coroutine[Any, Any, object]) -> float:
    """Seconds for which an event loop stood still at most while something was done in it."""
    longest, last = 0.0, time.monotonic()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    ticking = asyncio.create_task(tick())
    await work
    ticking.cancel()
    return longest


def take_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Answers begin only after a while."""
    begin = Client.generate

    def late(*given: Any) -> Any:
        time.sleep(seconds)
        return begin(*given)

    monkeypatch.setattr(Client, "generate", late)


def test_nothing_holds_up_an_event_loop(tiny_gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = [{"role": "user", "content": "abcdefgh" * 4000}]
    shares: list[float] = []

    async def talk(path: Path) -> None:
        settings = Settings(threads=1, ctx_size=40000)
        async with await aopen_model(path, settings, on_progress=shares.append) as model:
            async with await model.aanswer(prompt, max_tokens=3) as stream:
                assert isinstance([event async for event in stream][-1], Done)
            stream = await model.aanswer(prompt)
            await stream.aclose()
            assert [event async for event in model.conversation().asend("Hi.", max_tokens=2)]

    path = tiny_gguf({"nemotron_h_moe.context_length": u32(1 << 20)})
    take_time(monkeypatch, 0.5)
    assert asyncio.run(longest_pause(talk(path))) < 0.4
    assert shares


def test_what_nobody_waits_for_any_more_is_ended(
    slow: ChatModel, tiny_gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    take_time(monkeypatch, 0.2)

    async def leave(work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def go() -> None:
        await leave(slow.aanswer(ASK))
        await leave(anext(slow.conversation().asend("Hi.")))  # type: ignore[arg-type]
        await leave(aopen_model(tiny_gguf()))
        assert isinstance([event async for event in slow.complete("b", max_tokens=2)][-1], Done)

    asyncio.run(go())
    assert children() == before
    assert not slow.engine._process._waiting  # type: ignore[union-attr]


def test_a_conversation_in_an_event_loop(model: ChatModel) -> None:
    async def go() -> list[AnyEvent]:
        talk = model.conversation()
        talk.add_user("What is 8 + 5?")
        events = [event async for event in talk.areply()]
        assert talk.messages[-1]["content"] == "8 + 5 = 13."
        return events

    events = asyncio.run(go())
    assert any(isinstance(event, Reasoning) for event in events)


def test_an_async_answer_that_is_dropped_is_cancelled(slow: ChatModel) -> None:
    async def go() -> None:
        stream = slow.complete("a")
        async for event in stream:
            if isinstance(event, Answer):
                break
        stream.close()

    asyncio.run(go())
    assert isinstance(list(slow.complete("b", max_tokens=2))[-1], Done)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": "a"},
        {"max_tokens": 0},
        {"tools": [5]},
        {"stop": "ab"},
        {"top_logprobs": -1},
        {"stop": [""]},
        {"budget": 2**70},
        {"budget": 1.5},
        {"messages": []},
    ],
)
def test_a_wrong_wish_is_refused_and_the_engine_lives(model: ChatModel, wrong: dict[str, Any]) -> None:
    before = pid(model)
    with pytest.raises(RunnerError):
        list(model.answer(**({"messages": ASK} | wrong)))
    with pytest.raises(RunnerError):
        list(model.complete([2**40]))
    process = model.engine._process
    assert process
    number, replies = process.ask(Generate("x", Sampling(), max_tokens="many"))  # type: ignore[arg-type]
    assert "not understood" in replies.get(20).message
    assert number
    assert pid(model) == before
    assert text_of(list(model.answer(ASK))) == "8 + 5 = 13."


def test_an_answer_that_nobody_reads_is_cancelled(slow: ChatModel) -> None:
    stream = slow.complete("a")
    del stream
    assert isinstance(list(slow.complete("b", max_tokens=2))[-1], Done)


def test_the_engine_dies_with_its_front_though_a_fork_holds_the_pipe(slow: ChatModel) -> None:
    script = (
        "import os, sys, time\nfrom nemotron_gguf.runner import Settings, open_model\n"
        "model = open_model(sys.argv[1], Settings(threads=1, ctx_size=60000))\n"
        "fork = os.fork()\n"
        "if not fork: time.sleep(20); os._exit(0)\n"
        "print(model.engine._process.process.pid, fork, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, slow.file.path], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout
        child, fork = map(int, front.stdout.readline().split())
        front.kill()
        assert gone(child)
        os.kill(fork, signal.SIGKILL)


def test_many_threads_may_ask(model: ChatModel) -> None:
    """Each gets its turn; nobody waits for ever, no answer is mixed up."""
    answers: list[str] = []

    def ask() -> None:
        answers.extend(text_of(list(model.answer(ASK))) for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert answers == ["8 + 5 = 13."] * 20


def test_sampling_and_logprobs_go_through(model: ChatModel) -> None:
    hot = Sampling(temperature=1.5, seed=3)
    assert text_of(list(model.answer(ASK, sampling=hot))) == text_of(list(model.answer(ASK, sampling=hot)))
    events = list(model.answer(ASK, thinking=False, top_logprobs=2, stop=["= "]))
    assert text_of(events) == "8 + 5 "
    assert sum(type(event).__name__ == "Drawn" for event in events) >= 4


def test_the_log_is_shown_only_when_asked_for(demo_q8: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for verbose in (False, True):
        with open_model(demo_q8, Settings(threads=1, ctx_size=256), verbose=verbose) as opened:
            list(opened.answer(ASK, max_tokens=2))
        out, err = capfd.readouterr()
        assert out == ""
        assert ("llama_model_loader" in err) == verbose


def test_no_module_of_the_folder_is_run(tmp_path: Path, demo_q8: Path) -> None:
    write(tmp_path / "msgspec.py", b"raise SystemExit('run')")
    write(tmp_path / "llama_cpp.py", b"raise SystemExit('run')")
    script = (
        "import sys\nfrom nemotron_gguf.runner import open_model\n"
        "print(list(open_model(sys.argv[1]).complete('a', max_tokens=1))[-1].finish_reason)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, demo_q8], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() in ("length", "stop"), done.stderr
