"""From a file to a model that is ready to talk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from nemotron_gguf.runner.chat.template import ChatTemplate
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.in_thread import in_thread
from nemotron_gguf.runner.model import ChatModel
from nemotron_gguf.runner.preflight.check import inspect_model
from nemotron_gguf.runner.process.client import Client
from nemotron_gguf.runner.settings import Settings
from nemotron_gguf.runner.setup import set_up


def open_model(
    path: str | Path,
    settings: Settings | None = None,
    *,
    verbose: bool = False,
    on_progress: Callable[[float], object] | None = None,
) -> ChatModel:
    """Check a file, choose how to run it, and load it.

    `verbose` shows llama.cpp's own messages on stderr, `on_progress` is told how much is loaded, as a share of 1: first
    0, when nothing stands against it any more.
    Raises ModelError for a file that is no sound GGUF, RunnerError for one that cannot be run or no chat model, and
    where llama-cpp-python cannot be loaded.
    """
    engine = Client(verbose=verbose)  # it starts while the file is read
    try:
        file = inspect_model(path)
        template = ChatTemplate.from_file(file)
        setup = set_up(file, settings or Settings(), engine)
        if on_progress:
            on_progress(0.0)
        loaded = engine.load(
            file.path, setup.plan.placement, on_progress, cache_ram=setup.cache_ram, max_gap=setup.max_gap
        )
    except BaseException:
        engine.close()
        raise
    return ChatModel(file, setup, engine, template, loaded.specials)


async def aopen_model(
    path: str | Path,
    settings: Settings | None = None,
    *,
    verbose: bool = False,
    on_progress: Callable[[float], object] | None = None,
) -> ChatModel:
    """As `open_model`, for an event loop, in which `on_progress` is called. Who is cancelled ends the loading."""
    loop, gone = asyncio.get_running_loop(), threading.Event()

    def progress(share: float) -> None:
        if gone.is_set():
            raise RunnerError(f"the loading of {path} was ended")
        if on_progress:
            loop.call_soon_threadsafe(on_progress, share)

    def load() -> ChatModel:
        return open_model(path, settings, verbose=verbose, on_progress=progress)

    return await in_thread(load, gone, ChatModel.close)
