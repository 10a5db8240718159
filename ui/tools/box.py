"""The tools of a conversation: offered to the model, called for it within bounds of time and length."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner.chat.messages import clean
from nemotron_gguf.ui.tools.errors import ToolError
from nemotron_gguf.ui.tools.tool import Tool

SECONDS = 120.0  # for a call; tools that know better have bounds of their own
LONGEST = 20_000  # characters of a result, about 5,000 tokens
_POLL = 0.05  # seconds between two looks at whether somebody stopped it
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FAILED = "Error: "


class ToolBox:
    """Tools by their names. For any thread; calls may run side by side.

    Raises ToolError for two tools of one name, and for a name that models cannot call.
    """

    def __init__(self, tools: Iterable[Tool] = (), *, seconds: float = SECONDS, longest: int = LONGEST) -> None:
        self._tools: dict[str, Tool] = {}
        self._seconds, self._longest = seconds, longest
        for tool in tools:
            if not _NAME.fullmatch(tool.name):
                raise ToolError(f"a tool is named {tool.name!r}; expected 1 to 64 letters, digits, _ and -")
            if tool.name in self._tools:
                raise ToolError(f"two tools are named {tool.name!r}; leave one of them out")
            self._tools[tool.name] = tool

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def names(self) -> tuple[str, ...]:
        """The tools' names, in their order."""
        return tuple(self._tools)

    def specs(self) -> list[dict[str, Any]]:
        """The tools in the form of OpenAI's API."""
        return [
            {
                "type": "function",
                "function": {"name": name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for name, tool in self._tools.items()
        ]

    def acts(self, name: str) -> bool:
        """Whether a call of it has to be approved; true for a tool that is not there."""
        return name not in self._tools or self._tools[name].acts

    def call(self, name: str, arguments: str | Mapping[str, Any], stopped: threading.Event | None = None) -> str:
        """The result of a call as a text for the model; a failure is one too, and begins with "Error: ".

        `arguments`: a JSON object, as it is or as a text. `stopped`, once set, ends it.
        """
        try:
            tool = self._find(name)
            given = _checked(arguments, tool)
            return self._cut(self._run(tool, given, stopped or threading.Event()))
        except NemotronError as error:
            return self._cut(f"{_FAILED}{error}")

    def _find(self, name: str) -> Tool:
        if name not in self._tools:
            raise ToolError(f"there is no tool {name[:80]!r}; there are: {', '.join(self._tools) or 'none'}")
        return self._tools[name]

    def _run(self, tool: Tool, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """Call it in a thread that may be left behind: a tool that hangs takes nobody with it."""
        call = _Call(tool, arguments)
        until = time.monotonic() + self._seconds
        while not call.is_over(_POLL):
            if stopped.is_set() or time.monotonic() > until:
                call.stopped.set()
                if not call.over.wait(_POLL):
                    why = "the person stopped it" if stopped.is_set() else f"it took longer than {self._seconds:g} s"
                    raise ToolError(f"{tool.name} gave no result: {why}")
        return call.result()

    def _cut(self, text: str) -> str:
        text = clean(text)
        if len(text) <= self._longest:
            return text
        end = self._longest // 4  # where programs say how they ended
        left_out = len(text) - self._longest
        return f"{text[: self._longest - end]}\n[… {left_out:,} characters are left out here …]\n{text[-end:]}"


def failed(result: str) -> bool:
    """Whether a result says that the call failed."""
    return result.startswith(_FAILED)


class _Call:
    """A call in a thread of its own."""

    def __init__(self, tool: Tool, arguments: Mapping[str, Any]) -> None:
        self.stopped, self.over = threading.Event(), threading.Event()
        self._tool, self._arguments = tool, arguments
        self._text: str | None = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, name=f"tool-{tool.name}", daemon=True).start()

    def is_over(self, seconds: float) -> bool:
        """Wait a moment for its end; Ctrl-C meanwhile ends the call as well."""
        try:
            return self.over.wait(seconds)
        except KeyboardInterrupt:
            self.stopped.set()
            raise

    def _run(self) -> None:
        try:
            self._text = self._tool.call(self._arguments, self.stopped)
        except Exception as error:  # whatever it is, the model is told and may go on
            self._error = error
        self.over.set()

    def result(self) -> str:
        """What came of it. Raises ToolError where it failed."""
        if self._error is None:
            assert self._text is not None
            return self._text
        if isinstance(self._error, NemotronError):
            raise self._error
        words = f"{type(self._error).__name__}: {self._error}".split("\n")[0][:300]
        raise ToolError(f"{self._tool.name} failed ({words})") from self._error


def _checked(arguments: str | Mapping[str, Any], tool: Tool) -> dict[str, Any]:
    """The arguments as a mapping that fits the schema. Raises ToolError, for the model, where they do not."""
    from jsonschema import validators

    try:
        given = json.loads(arguments or "{}") if isinstance(arguments, str) else dict(arguments)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the arguments of {tool.name} are no JSON: {str(error)[:200]}") from error
    if not isinstance(given, dict):
        raise ToolError(f"the arguments of {tool.name} are no JSON object; expected one with its parameters")
    kind = validators.validator_for(tool.parameters)
    try:
        wrong = next(iter(kind(tool.parameters).iter_errors(given)), None)
    except Exception:  # a server's schema that nobody can apply: the server itself will say what it wants
        wrong = None
    if wrong is not None:
        where = ".".join(map(str, wrong.absolute_path))
        at = f" at {where}" if where else ""
        raise ToolError(f"the arguments of {tool.name} do not fit{at}: {wrong.message[:300]}")
    return given
