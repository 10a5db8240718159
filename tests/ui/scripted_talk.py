"""A program for the tests: the terminal chat with a model that says what its script tells it, at its pace.

    python scripted_talk.py --message hello

The options are those of `nemotron chat`. SCRIPTED_DELAY: seconds between two pieces of an answer.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.runner.events import Answer, AnyEvent, Done, PromptProgress, Reasoning, Timings, ToolCall, Usage

TABLE = """Here are the types:

| type | bits a weight | use |
|:--|--:|:--|
| `Q4_K_M` | 4.85 | the usual choice, small and good |
| `Q8_0` | 8.5 | nearly as the original |
| 中文 | 16 | 全部的精度，很大的文件 |

And **that** is all.
"""
CODE = (
    "A program:\n\n```python\n"
    + "".join(f'def step_{i}(x):\n    return x + {i}  # 第{i}步 "text"\n\n' for i in range(1, 16))
    + "```\n\nIt has 15 steps.\n"
)
CHINESE = (
    "# 关于量化\n\n"
    "量化是把模型的权重压缩成更小的数字，这样文件会变小，速度会变快。"
    "Q4_K_M 是一种常用的类型，它把每个权重压缩到大约 4.85 位。\n\n"
    "1. 首先读取权重，然后按块计算比例。\n2. 其次把每一个数字四舍五入，并且写入文件。\n\n"
    "- 优点：**小**，快\n- 缺点：有一点误差\n"
)
ESSAY = "".join(
    f"## Part {i}\n\nThis is *paragraph* {i} of a long essay, with **bold words** and `code`, which goes on for a few"
    f" lines so that it must be wrapped. Row {i} ends.\n\n- item {i}a\n- item {i}b with some more words in it\n\n"
    for i in range(1, 13)
)
ANSWERS = {
    "table": TABLE,
    "code": CODE,
    "chinese": CHINESE,
    "essay": ESSAY,
    "long": "word " * 4000,
    "everything": TABLE + "\n" + CODE + "\n" + CHINESE,
    "hostile": "a\x1b[31m red\x1b]0;title\x07 \x9b2J <b>html</b> [x](http://a.b) ![i](http://c.d/e)\n\n[1]: http://f.g\n",
}


@dataclass
class Talk:
    """A conversation as `runner` has them."""

    system: str | None
    thinking: bool
    delay: float
    budget: int | None = None
    low_effort: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    enough: threading.Event = field(default_factory=threading.Event)

    def add_user(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def undo(self) -> str:
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return str(message["content"])
        return ""

    def clear(self) -> None:
        self.messages.clear()

    def stop(self) -> None:
        self.stopped.set()

    def stop_thinking(self) -> None:
        self.enough.set()

    def reply(self, **_wishes: object) -> Iterator[AnyEvent]:
        self.stopped.clear()
        self.enough.clear()
        if os.environ.get("SCRIPTED_BEGUN"):
            Path(os.environ["SCRIPTED_BEGUN"]).touch()
        question = str(self.messages[-1]["content"])
        started = time.monotonic()
        thought, said = "", ""
        if "slow prompt" in question:
            for done in range(0, 10_001, 500):
                yield PromptProgress(done, 10_000)
                if self.stopped.wait(0.1):
                    yield self._done("cancelled", thought, said, started)
                    return
        if "refused" in question:
            raise RunnerError("the engine's process ended by signal 9; the next message starts a fresh one")
        for piece in _pieces(self._thoughts(question)):
            if self.enough.is_set() or self.stopped.is_set():
                break
            thought += piece
            yield Reasoning(piece)
            time.sleep(self.delay)
        for piece in _pieces(self._answer(question)):
            if self.stopped.wait(self.delay):
                break
            said += piece
            yield Answer(piece)
        if "call" in question:
            yield ToolCall("look", {"where": "here\x1b"})
        if thought or said:
            extra = {"reasoning_content": thought} if thought else {}
            self.messages.append({"role": "assistant", "content": said, **extra})
        yield self._done("cancelled" if self.stopped.is_set() else "stop", thought, said, started)

    def _thoughts(self, question: str) -> str:
        if not self.thinking or self.budget == 0:
            return ""
        if "ponder" in question:
            return "".join(f"Step {i}: I weigh it once more, 我再想一想。\n" for i in range(200))
        return f"weighing {question[:200]}" + (f" with {self.system}" if self.system else "")

    def _answer(self, question: str) -> str:
        first = question.partition("\n")[0]
        return next((text for word, text in ANSWERS.items() if word in first), f"You said {question}.")

    def _done(self, reason: Any, thought: str, said: str, started: float) -> Done:
        n_thought, n_said = len(_pieces(thought)), len(_pieces(said))
        took = time.monotonic() - started
        usage = Usage(100 + len(self.messages), 60, n_thought + n_said, n_thought)
        timings = Timings(0.1, took, 400.0, (n_thought + n_said) / max(took, 1e-6), 0.12)
        return Done(reason, usage, timings, 100 + n_thought + n_said, 4096)


class Model:
    """A loaded model as `runner` has them."""

    name = "Scripted *model*"
    template = SimpleNamespace(has_switch=True)

    def __init__(self, delay: float) -> None:
        self.delay = delay

    def describe(self) -> str:
        return f"{self.name} · 1 MB"

    def conversation(self, *, system: str | None = None, thinking: bool = True) -> Talk:
        return Talk(system, thinking, self.delay)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_rest: object) -> None:
        print("closed", file=sys.stderr)


def _pieces(text: str) -> list[str]:
    """About as long as tokens are."""
    return re.findall(r".{1,4}", text, re.DOTALL)


def main() -> None:
    from nemotron_gguf.ui import cli, talk
    from nemotron_gguf.ui.terminal import verb

    delay = float(os.environ.get("SCRIPTED_DELAY", "0.01"))
    patched: list[tuple[Any, str, Any]] = [
        (verb, "open_with_bar", lambda *_rest, **_more: Model(delay)),
        (talk, "resolve", lambda name: name),
    ]
    for module, name, value in patched:
        setattr(module, name, value)
    sys.argv = ["nemotron", "chat", "scripted.gguf", *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
