"""A model that says what it is told to, and a browser to look at the page with."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.gguf_values import string
from nemotron_gguf.runner import (
    AnswerStream,
    AnyEvent,
    ChatModel,
    ChatTemplate,
    Client,
    Done,
    EngineBusyError,
    Sampling,
    Setup,
    Timings,
    Usage,
)
from nemotron_gguf.runner.chat.literal import Specials
from nemotron_gguf.runner.chat.stream import StreamParser
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.placement.plan import Plan
from nemotron_gguf.runner.process.messages import Generate

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    "{{ '<think>\n' if enable_thinking else '<think></think>' }}"
)


class ScriptedStream(AnswerStream):
    """Says a text, a character at a time."""

    def __init__(self, engine: ScriptedEngine, task: Generate) -> None:
        assert isinstance(task.prompt, str)
        assert task.format is not None
        self.engine, self.text = engine, engine.script(task.prompt)
        self.parser = StreamParser(task.format, task.tools)
        self.stopped, self.wants_answer = threading.Event(), threading.Event()
        self._over = True  # for its last moment

    def cancel(self) -> None:
        self.stopped.set()

    def end_thinking(self) -> None:
        self.wants_answer.set()

    def close(self) -> None:
        self.cancel()
        self.engine.busy.release() if self.engine.busy.locked() else None

    def __iter__(self) -> Iterator[AnyEvent]:
        said = 0
        while said < len(self.text) and not self.stopped.is_set():
            if self.wants_answer.is_set() and self.parser.thinking:
                yield from self.parser.feed("</think>")
                said = self.text.index("</think>") + len("</think>")
            yield from self.parser.feed(self.text[said])
            said += 1
            time.sleep(self.engine.delay)
        yield from self.parser.finish()
        yield Done("cancelled" if self.stopped.is_set() else "stop", Usage(completion_tokens=said), Timings())


class ScriptedEngine:
    """Answers with `script(prompt)`, `delay` seconds between two characters."""

    loaded = None

    def __init__(self, script: Callable[[str], str], delay: float) -> None:
        self.script, self.delay = script, delay
        self.prompts: list[str] = []
        self.tasks: list[Generate] = []
        self.busy = threading.Lock()

    def generate(self, task: Generate, _cancelled: threading.Event | None = None) -> ScriptedStream:
        if not self.busy.acquire(blocking=False):
            raise EngineBusyError("busy")
        assert isinstance(task.prompt, str)
        self.prompts.append(task.prompt)
        self.tasks.append(task)
        return ScriptedStream(self, task)

    def close(self) -> None:
        pass


class ScriptedPlan:
    """A place for a model that is not there."""

    placement = Placement(ctx_size=4096, threads=1)

    def describe(self) -> str:
        return "context 4096"


def scripted(script: Callable[[str], str], delay: float = 0.0) -> ChatModel:
    engine = ScriptedEngine(script, delay)
    file = GGUFFile(Path("scripted.gguf"), 3, 32, {"general.name": string("Scripted *model*")}, (), 0)
    setup = Setup(cast(Plan, ScriptedPlan()), Sampling())
    return ChatModel(file, setup, cast(Client, engine), ChatTemplate(TEMPLATE), Specials())


@pytest.fixture
def scripted_model() -> Callable[..., ChatModel]:
    """`scripted_model(script, delay)`: a chat model whose answers `script` writes."""
    return scripted


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright, whose event loop others in this thread must not find running."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=executable, headless=True, args=options)
        yield started
        started.close()
