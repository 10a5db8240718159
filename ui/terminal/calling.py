"""Tools in the terminal: what the model calls is asked about where it acts, run, shown, and told to the model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from nemotron_gguf.runner import Conversation, Done
from nemotron_gguf.ui import console
from nemotron_gguf.ui.terminal.safe import safe
from nemotron_gguf.ui.terminal.wrap import rows_of

if TYPE_CHECKING:
    from nemotron_gguf.ui.tools import ToolBox

ROUNDS = 16  # of calls before a model has to be asked again by the person
ROWS = 8  # of a result that are shown
DECLINED = "Error: the person did not approve this call"
STOPPED = "Error: the person stopped this call"


class Caller:
    """Runs the calls of answers. `ask` puts a question to the person and gives what was typed."""

    def __init__(self, box: ToolBox, ask: Callable[[str], str]) -> None:
        self._box, self._ask = box, ask
        self._approved: set[str] = set()  # tools that the person need not be asked about again

    def follow(self, talk: Conversation, done: Done, go_on: Callable[[], Done]) -> Done:
        """Run what was called and let the model go on, until it calls nothing more. Raises as `go_on` does."""
        for _ in range(ROUNDS):
            calls = talk.messages[-1].get("tool_calls") if done.finish_reason == "tool_calls" else None
            if not calls or not self._run(talk, [call["function"] for call in calls]):
                return done
            done = go_on()
        return done

    def _run(self, talk: Conversation, calls: list[Mapping[str, Any]]) -> bool:
        """Add a result for each call; whether the model shall go on, which it shall not where Ctrl-C was pressed."""
        stopped = False
        for call in calls:
            result = STOPPED
            if not stopped:
                try:
                    result = self._result(call["name"], call["arguments"])
                except KeyboardInterrupt:
                    stopped = True
            _print(_card(result))
            talk.add_tool_result(result)
        return not stopped

    def _result(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self._box.acts(name) and name in self._box.names and name not in self._approved:
            _print(_details(name, arguments))
            said = self._ask("Run it? [y]es, [a]lways this tool, [N]o:").strip().lower()
            if said in ("a", "always"):
                self._approved.add(name)
            elif said not in ("y", "yes"):
                return DECLINED
        return self._box.call(name, arguments)


def ask_plainly(question: str) -> str:
    """A question outside of a session; nobody is there to answer it where stdin or stderr is no terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    print(f"{question} ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _details(name: str, arguments: Mapping[str, Any]) -> Iterator[Text]:
    """All of what it would be called with, so that a person can judge it."""
    yield Text(f"{safe(name)} may change something. It would be called with:", style="yellow")
    for key, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield from rows_of(f"  {safe(key)}: " + safe(text).replace("\n", "\n  "), _width(), "yellow")


def _card(result: str) -> Iterator[Text]:
    """The first rows of a result."""
    rows = list(rows_of("← " + safe(result).strip("\n").replace("\n", "\n  "), _width(), "dim cyan"))
    yield from rows[:ROWS]
    if len(rows) > ROWS:
        yield Text(f"  … and {len(rows) - ROWS} rows more, which the model sees", style="dim")


def _width() -> int:
    return max(console.stderr().width - 1, 10)


def _print(rows: Iterator[Text]) -> None:
    screen = console.stderr()
    for row in rows:
        screen.print(row)
