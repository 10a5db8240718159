"""The options that say which tools a model may call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nemotron_gguf.ui.tools import ToolBox

PANEL = "Tools"


@dataclass(frozen=True)
class Tooling:
    """Tools of ours by their names, and those of MCP servers; none where nothing is said."""

    tools: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Tools that it may call: calculator, clock, folder=PATH (to read), python; commas between them.",
            rich_help_panel=PANEL,
        ),
    ] = None
    mcp_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help='MCP servers to start or reach: {"mcpServers": {…}}.', rich_help_panel=PANEL),
    ] = None

    @property
    def wanted(self) -> bool:
        """Whether any are."""
        return self.tools is not None or self.mcp_config is not None

    @contextmanager
    def opened(self) -> Iterator[ToolBox | None]:
        """The tools, with their servers running meanwhile; None where none are wanted. Raises ToolError."""
        if not self.wanted:
            yield None
            return
        from nemotron_gguf.ui.tools import ToolBox
        from nemotron_gguf.ui.tools.built_in import built_in

        own = built_in(filter(None, (self.tools or "").split(",")))
        if self.mcp_config is None:
            yield ToolBox(own)
            return
        from nemotron_gguf.ui import console
        from nemotron_gguf.ui.tools.mcp import Servers
        from nemotron_gguf.ui.tools.mcp_config import read_config

        with Servers(read_config(self.mcp_config)) as servers:
            for failure in servers.failures.values():
                console.note(failure)
            yield ToolBox([*own, *servers.tools])
