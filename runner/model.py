"""A model ready to talk: the file, what was chosen for it, the engine and the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.conversation import Conversation
from nemotron_gguf.runner.engine import Engine
from nemotron_gguf.runner.library import devices, set_verbose
from nemotron_gguf.runner.preflight import inspect_model
from nemotron_gguf.runner.settings import Settings, Setup, choose
from nemotron_gguf.runner.template import ChatTemplate, Tool


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A loaded model; a context manager that frees it. Its conversations share one engine, one answer at a time."""

    file: GGUFFile
    setup: Setup
    engine: Engine
    template: ChatTemplate

    @property
    def name(self) -> str:
        """The model's name, or its file's where it has none."""
        name = self.file.get("general.name")
        return name if isinstance(name, str) and name.strip() else self.file.path.stem

    def describe(self) -> str:
        """One line: what was loaded and what was chosen for it."""
        size = self.file.file_size
        shown = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
        return f"{self.name} · {shown} · {self.setup.describe()}"

    def conversation(
        self, *, system: str | None = None, tools: Sequence[Tool] = (), thinking: bool = True
    ) -> Conversation:
        """A new conversation."""
        return Conversation(self.engine, self.template, system=system, tools=tools, thinking=thinking)

    def close(self) -> None:
        """Free the model."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_model(path: str | Path, settings: Settings | None = None, *, verbose: bool = False) -> ChatModel:
    """Check a file, choose how to run it, and load it.

    `verbose` shows llama.cpp's own messages on stderr. Raises ModelError for a file that is no sound GGUF, RunnerError
    for one that cannot be run or no chat model, and where llama-cpp-python cannot be loaded.
    """
    file = inspect_model(path)
    template = ChatTemplate.from_file(file)
    set_verbose(verbose)
    setup = choose(settings or Settings(), file, devices())
    return ChatModel(file, setup, Engine(file.path, setup), template)
