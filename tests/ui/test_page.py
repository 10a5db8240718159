"""The chat page in a real browser: asked, read, stopped, cleared, in two tabs and two languages."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.runner import ChatModel, RunnerError
from nemotron_gguf.ui import page as page_module

SECONDS = 60_000  # milliseconds that the browser waits for something to appear: machines are slow at times
LONG = "word " * 400


def script(prompt: str) -> str:
    """Thinks where the prompt asks for it; what it says depends on the question."""
    question = prompt.rpartition("[user]")[2].partition("[assistant]")[0]
    said = LONG if "long" in question else f"You said: {question}. 你好 ![x](http://192.0.2.1/leak.png)"
    return f"I weigh *{question}*.</think>\n\n{said}" if prompt.endswith("<think>\n") else said


class Served:
    """The page of a scripted model, and what the browser asked for elsewhere."""

    def __init__(self, model: ChatModel, browser: Any) -> None:
        self.model, self.browser = model, browser
        self.page = page_module.build(model)
        self.port = page_module.free_port(18100)
        page_module.launch(self.page, self.port, wait=False)
        self.contexts: list[Any] = []
        self.outside: list[str] = []

    def tab(self, **options: Any) -> Any:
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(SECONDS)
        # a request that the page's policy blocks fails before it is sent
        tab.on("response", lambda answer: self.outside.append(answer.url) if self.is_outside(answer.url) else None)
        tab.goto(f"http://{page_module.HOST}:{self.port}")
        tab.wait_for_selector("#message textarea")
        return tab

    def is_outside(self, url: str) -> bool:
        return not url.startswith((f"http://{page_module.HOST}:{self.port}", "data:", "blob:"))

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.page.close()


@pytest.fixture
def serve(browser: Any, scripted_model: Callable[..., ChatModel]) -> Iterator[Callable[..., Served]]:
    open_pages: list[Served] = []

    def make(delay: float = 0.0) -> Served:
        open_pages.append(Served(scripted_model(script, delay), browser))
        return open_pages[-1]

    yield make
    for served in open_pages:
        served.close()


def ask(tab: Any, text: str) -> None:
    tab.fill("#message textarea", text)
    tab.press("#message textarea", "Enter")


def finished(tab: Any) -> None:
    tab.wait_for_selector("#stop:disabled")
    tab.wait_for_selector("#send:not([disabled])")


def chat_text(tab: Any) -> str:
    return str(tab.inner_text("#chat"))


def test_reasoning_is_folded_apart_and_the_switch_works(serve: Callable[..., Served]) -> None:
    served = serve()
    tab = served.tab()
    ask(tab, "hello there")
    tab.wait_for_selector("text=You said: hello there")
    finished(tab)
    assert "Reasoning" in chat_text(tab)
    assert not tab.is_visible("text=I weigh"), "the reasoning is folded away"
    tab.click("text=Reasoning")
    tab.wait_for_selector("text=I weigh", state="visible")

    tab.uncheck("#thinking input")
    ask(tab, "second one")
    tab.wait_for_selector("text=You said: second one")
    finished(tab)
    assert chat_text(tab).count("Reasoning") == 1
    engine: Any = served.model.engine
    assert engine.prompts[1].endswith("[user]second one[assistant]<think></think>")
    assert "You said: hello there" in engine.prompts[1], "the conversation goes on"
    assert served.outside == [], "nothing is fetched from elsewhere, a picture in an answer included"


def test_an_answer_grows_and_can_be_stopped(serve: Callable[..., Served]) -> None:
    served = serve(delay=0.01)
    tab = served.tab()
    ask(tab, "a long one")
    tab.wait_for_selector("text=word word word")
    tab.click("#stop")
    finished(tab)
    length = len(chat_text(tab))
    assert 0 < length < len(LONG) / 2
    ask(tab, "short")
    tab.wait_for_selector("text=You said: short")
    engine: Any = served.model.engine
    assert "word word" in engine.prompts[1], "what was said before the stop is remembered"


def test_a_tab_hears_that_too_many_wait(serve: Callable[..., Served]) -> None:
    served = serve(delay=0.01)
    first, second = served.tab(), served.tab(locale="zh-CN")
    ask(first, "a long one")
    first.wait_for_selector("text=word word")
    ask(second, "and me?")
    second.wait_for_selector("text=排队等待回答的问题太多")
    assert second.input_value("#message textarea") == "and me?", "the question is kept"
    first.click("#stop")
    finished(first)
    second.press("#message textarea", "Enter")
    second.wait_for_selector("text=You said: and me?")
    engine: Any = served.model.engine
    assert "a long one" not in engine.prompts[-1], "each tab has a conversation of its own"


def test_a_new_conversation_can_begin_at_any_time(serve: Callable[..., Served]) -> None:
    served = serve(delay=0.01)
    tab = served.tab()
    ask(tab, "a long one")
    tab.wait_for_selector("text=word word")
    tab.click("#clear")
    tab.wait_for_selector("text=word word", state="detached")
    finished(tab)
    engine: Any = served.model.engine
    wait_until(lambda: not engine.busy.locked())
    ask(tab, "anew")
    tab.wait_for_selector("text=You said: anew")
    assert "long" not in engine.prompts[-1]
    assert "word word" not in chat_text(tab)


def test_a_closed_tab_frees_the_model(serve: Callable[..., Served]) -> None:
    served = serve(delay=0.05)
    tab = served.tab()
    ask(tab, "a long one")
    tab.wait_for_selector("text=word")
    tab.close()
    engine: Any = served.model.engine
    wait_until(lambda: not engine.busy.locked())


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    for _ in range(int(seconds / 0.1)):
        if true():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(("locale", "words"), [("en-US", "Think first"), ("zh-CN", "先思考"), ("zh-TW", "先思考")])
def test_labels_follow_the_browsers_language(serve: Callable[..., Served], locale: str, words: str) -> None:
    tab = serve().tab(locale=locale)
    tab.wait_for_selector(f"text={words}")


def test_it_fits_a_telephone(serve: Callable[..., Served]) -> None:
    tab = serve().tab(viewport={"width": 360, "height": 640}, color_scheme="dark")
    ask(tab, "x" * 200)
    tab.wait_for_selector("text=You said")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    for button in ("#send", "#stop", "#clear", "#thinking"):
        box = tab.locator(button).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


def test_the_real_model_answers_on_the_page(browser: Any, demo_q8: Path) -> None:
    port = page_module.free_port(18200)
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "ui", str(demo_q8), "--port", str(port)]
    options = ["--threads", "1", "--temperature", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, encoding="utf-8") as server:
        try:
            assert server.stdout is not None
            assert str(port) in server.stdout.readline()
            tab = browser.new_page()
            tab.set_default_timeout(SECONDS)
            wait_until(lambda: answers(port))
            tab.goto(f"http://{page_module.HOST}:{port}")
            ask(tab, "What does the convert room do?")
            tab.wait_for_selector("text=Reasoning")
            finished(tab)
            answer = chat_text(tab).rpartition("Reasoning")[2]
            assert len(re.findall(r"\w+", answer)) >= 3, answer
            tab.close()
        finally:
            server.terminate()


def answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((page_module.HOST, port)) == 0


def test_a_taken_port_gives_the_next_one() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((page_module.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < page_module.free_port(port) < port + page_module.PORTS_TRIED


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "PORTS_TRIED", 0)
    with pytest.raises(RunnerError, match="--port"):
        page_module.free_port(18300)


WATCH = """
import socket, sys
reached = []
def watch(name):
    real = getattr(socket.socket, name)
    def connect(self, address):
        reached.append(address)
        return real(self, address)
    setattr(socket.socket, name, connect)
watch("connect"); watch("connect_ex")
looked_up = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    reached.append((host, 0))
    return looked_up(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
sys.path.insert(0, sys.argv[1])
import time, conftest
from nemotron_gguf.ui import page
built = page.build(conftest.scripted(lambda prompt: "x"))
page.launch(built, page.free_port(18400), wait=False)
time.sleep(3)
local = ("127.0.0.1", "localhost", "0.0.0.0", "::1", None)
print("OUTSIDE", [a for a in reached if isinstance(a, tuple) and a[0] not in local], len(reached))
built.close()
"""


def test_the_server_calls_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"OUTSIDE (\[.*\]) (\d+)", done.stdout)
    assert found, done.stderr
    assert found[1] == "[]"
    assert int(found[2]) > 0, "the watch itself works: Gradio looks whether its own page is up"
