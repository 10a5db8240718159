"""Tools in the terminal: a call is run and answered, one that acts only where the person approves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from nemotron_gguf.runner import Conversation, Done, Timings, Usage
from nemotron_gguf.runner.events import FinishReason
from nemotron_gguf.ui.terminal.calling import DECLINED, ROUNDS, STOPPED, Caller
from nemotron_gguf.ui.tools import ToolBox


class Tool:
    """Remembers its calls."""

    description = "A tool."
    parameters: Mapping[str, Any] = {"type": "object"}

    def __init__(self, acts: bool, work: Callable[[], str] = lambda: "seen") -> None:
        self.acts, self.work = acts, work
        self.name = "write" if acts else "look"
        self.calls = 0

    def call(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        del arguments, stopped
        self.calls += 1
        return self.work()


class Talk:
    """A conversation whose model calls the same tools in every answer, `rounds` times."""

    def __init__(self, names: list[str], rounds: int) -> None:
        calls = [{"type": "function", "function": {"name": name, "arguments": {"text": "a\x1b[2J"}}} for name in names]
        self.asking = {"role": "assistant", "content": "", "tool_calls": calls}
        self.rounds = rounds
        self.messages: list[dict[str, Any]] = []

    def add_tool_result(self, text: str) -> None:
        self.messages.append({"role": "tool", "content": text})

    def go_on(self) -> Done:
        self.rounds -= 1
        reason: FinishReason = "tool_calls" if self.rounds >= 0 else "stop"
        self.messages.append(dict(self.asking) if self.rounds >= 0 else {"role": "assistant", "content": "Done."})
        return Done(reason, Usage(), Timings())

    def results(self) -> list[str]:
        return [str(message["content"]) for message in self.messages if message["role"] == "tool"]


def follow(talk: Talk, tools: list[Tool], *answers: str) -> list[str]:
    """What the person was asked; `answers` are theirs."""
    left, asked = list(answers), []

    def ask(question: str) -> str:
        asked.append(question)
        return left.pop(0)

    Caller(ToolBox(tools), ask).follow(cast(Conversation, talk), talk.go_on(), talk.go_on)
    return asked


def test_what_only_reads_is_run_without_a_word() -> None:
    talk, tool = Talk(["look", "look"], 2), Tool(acts=False)
    assert follow(talk, [tool]) == []
    assert talk.results() == ["seen"] * 4
    assert talk.messages[-1]["content"] == "Done."


def test_what_acts_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    talk, tool = Talk(["write"], 2), Tool(acts=True)
    assert len(follow(talk, [tool], "", "y")) == 2
    assert talk.results() == [DECLINED, "seen"]
    assert tool.calls == 1
    shown = capsys.readouterr().err
    assert "write may change something" in shown
    assert "text: a[2J" in shown, "and no command to the terminal"


def test_a_tool_can_be_approved_for_good() -> None:
    talk, tool = Talk(["write"], 3), Tool(acts=True)
    assert len(follow(talk, [tool], "a")) == 1
    assert tool.calls == 3


def test_a_tool_that_is_not_there_is_told_and_not_asked_about() -> None:
    talk = Talk(["none"], 1)
    assert follow(talk, [Tool(acts=True)]) == []
    assert "there is no tool 'none'" in talk.results()[0]


def test_an_endless_caller_is_ended() -> None:
    talk, tool = Talk(["look"], 10_000), Tool(acts=False)
    follow(talk, [tool])
    assert tool.calls == ROUNDS


def test_ctrl_c_ends_the_calls_and_every_call_has_its_result() -> None:
    talk = Talk(["write", "look"], 2)

    def ask(_question: str) -> str:
        raise KeyboardInterrupt

    Caller(ToolBox([Tool(acts=True), Tool(acts=False)]), ask).follow(cast(Conversation, talk), talk.go_on(), talk.go_on)
    assert talk.results() == [STOPPED, STOPPED]
    assert talk.messages[-1]["role"] == "tool"


def test_the_demo_model_tells_the_time(demo_q8: Path) -> None:
    options = ["--tools", "clock,calculator", "-m", "What time is it in Paris?", "--no-thinking", "--temperature", "0"]
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "chat", str(demo_q8), *options, "--threads", "1"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    assert "→ clock(" in result.stderr
    assert "Europe/Paris" in result.stderr
    assert "Paris" in result.stdout
    assert "→" not in result.stdout


def test_wrong_wishes_are_one_line(tmp_path: Path) -> None:
    for options in (["--tools", "hammer"], ["--mcp-config", str(tmp_path / "none")], ["--tools", "folder=/no/such"]):
        command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "chat", "x.gguf", "-m", "hi", *options]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
        assert result.returncode == 1, result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
