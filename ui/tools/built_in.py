"""The tools of our own, by the names under which a person asks for them."""

from __future__ import annotations

from collections.abc import Iterable

from nemotron_gguf.ui.tools.calculator import Calculator
from nemotron_gguf.ui.tools.clock import Clock
from nemotron_gguf.ui.tools.errors import ToolError
from nemotron_gguf.ui.tools.folder import Folder
from nemotron_gguf.ui.tools.python import PythonTool
from nemotron_gguf.ui.tools.tool import Tool

NAMES = ("calculator", "clock", "folder=PATH", "python")


def built_in(wishes: Iterable[str]) -> list[Tool]:
    """The tools of these names, once each. Raises ToolError for a name that is none, or a folder that is not there."""
    tools: list[Tool] = []
    for wish in dict.fromkeys(wish.strip() for wish in wishes):
        name, _, value = wish.partition("=")
        if name == "folder" and value:
            tools += Folder(value).tools()
        elif wish == "calculator":
            tools.append(Calculator())
        elif wish == "clock":
            tools.append(Clock())
        elif wish == "python":
            tools.append(PythonTool())
        else:
            raise ToolError(f"there is no tool {wish[:60]!r}; there are: {', '.join(NAMES)}")
    return tools
