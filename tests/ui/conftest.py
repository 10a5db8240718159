"""A model that says what it is told to, and a browser to look at the page with."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.gguf_values import string
from nemotron_gguf.runner import ChatModel, ChatTemplate, EngineBusyError, Sampling, Setup
from nemotron_gguf.runner.engine import Engine, Progress

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    "{{ '<think>\n' if enable_thinking else '<think></think>' }}"
)


class ByteVocabulary:
    """Every byte is a token."""

    size = 256

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def single(self, texts: Iterable[str]) -> frozenset[int]:
        return frozenset(text.encode()[0] for text in texts if len(text) == 1)

    def piece(self, token: int, special: bool = False) -> bytes:  # noqa: ARG002 - the signature of the real one
        return bytes([token])


class ScriptedEngine:
    """Answers with `script(prompt)`, a byte at a time, `delay` seconds between two characters."""

    def __init__(self, script: Callable[[str], str], delay: float) -> None:
        self.script, self.delay = script, delay
        self.setup = Setup(ctx_size=4096, n_gpu_layers=0, threads=1, gpu="", sampling=Sampling())
        self.vocabulary = ByteVocabulary()
        self.prompts: list[str] = []
        self.busy = threading.Lock()

    def generate(
        self,
        prompt: Sequence[int],
        _sampling: Sampling,
        _max_tokens: int | None,
        *,
        progress: Progress,
        cancelled: threading.Event,
    ) -> Iterator[int]:
        if not self.busy.acquire(blocking=False):
            raise EngineBusyError("busy")
        try:
            self.prompts.append(bytes(prompt).decode())
            for token in self.script(self.prompts[-1]).encode():
                if cancelled.is_set():
                    return
                yield token
                progress.generated_tokens += 1
                time.sleep(self.delay)
            progress.finish_reason = "stop"
        finally:
            self.busy.release()

    def close(self) -> None:
        pass


def scripted(script: Callable[[str], str], delay: float = 0.0) -> ChatModel:
    engine = ScriptedEngine(script, delay)
    file = GGUFFile(Path("scripted.gguf"), 3, 32, {"general.name": string("Scripted *model*")}, (), 0)
    return ChatModel(file, engine.setup, cast(Engine, engine), ChatTemplate(TEMPLATE))


@pytest.fixture
def scripted_model() -> Callable[..., ChatModel]:
    """`scripted_model(script, delay)`: a chat model whose answers `script` writes."""
    return scripted


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=executable, headless=True, args=options)
        yield started
        started.close()
