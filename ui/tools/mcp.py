"""Tools of MCP servers: programs that are started here, or addresses, named in a file as other clients use it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from nemotron_gguf.ui.tools.errors import ToolError
from nemotron_gguf.ui.tools.mcp_config import Server
from nemotron_gguf.ui.tools.mcp_session import ServerSession, ToolSpec
from nemotron_gguf.ui.tools.tool import Tool

START_SECONDS = 60.0  # for a server to start and to name its tools; the first start of one may download it
CALL_SECONDS = 110.0  # for a call, within the box's own bound
CLOSE_SECONDS = 10.0
_POLL = 0.05
_LONGEST_NAME = 64

Result = TypeVar("Result")


class Servers:
    """MCP servers that run until they are closed; a context manager. One thread of its own talks with all of them.

    A server that cannot be started is no error: `failures` says why, by its name.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()
        self._sessions = {server.name: ServerSession(server) for server in servers}
        self.failures: dict[str, str] = {}
        self.tools: list[Tool] = []
        try:
            begun = {name: self._begin(session.start(START_SECONDS)) for name, session in self._sessions.items()}
            for name, future in begun.items():
                self._collect(name, future)
        except BaseException:
            self.close()
            raise

    def _collect(self, name: str, future: Future[list[ToolSpec]]) -> None:
        try:
            specs = future.result(START_SECONDS + CLOSE_SECONDS)
        except ToolError as error:
            self.failures[name] = str(error)
        except TimeoutError:
            self.failures[name] = f"the MCP server {name} did not start within {START_SECONDS:.0f} s"
        else:
            taken = {tool.name for tool in self.tools}
            for spec in specs:
                tool = McpTool(self, name, spec, tool_name(name, spec.name, taken))
                taken.add(tool.name)
                self.tools.append(tool)

    def call(self, server: str, tool: str, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """The result of a call. Raises ToolError where it fails, takes too long, or the server has died twice."""
        future = self._begin(self._sessions[server].call(tool, arguments, CALL_SECONDS))
        while True:
            try:
                return future.result(_POLL)
            except TimeoutError as error:
                if future.done():
                    raise ToolError(f"the MCP server {server} took too long") from error
                if stopped.is_set():
                    future.cancel()
                    raise ToolError(f"the call of {tool} was stopped") from error

    def close(self) -> None:
        """End the servers; those that were started here are gone afterwards."""
        if self._loop.is_closed():
            return
        closing = [self._begin(session.close()) for session in self._sessions.values()]
        for future in closing:
            with contextlib.suppress(Exception):  # each has its own chance to end
                future.result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class McpTool:
    """A tool of a server, under a name that says whose it is."""

    def __init__(self, servers: Servers, server: str, spec: ToolSpec, name: str) -> None:
        self._servers, self._server, self._spec = servers, server, spec
        self.name, self.description = name, spec.description
        self.parameters: Mapping[str, Any] = spec.parameters

    @property
    def acts(self) -> bool:
        """True unless the server says that it only reads."""
        return not self._spec.reads_only

    def call(self, arguments: Mapping[str, Any], stopped: threading.Event) -> str:
        """What the server answers."""
        return self._servers.call(self._server, self._spec.name, arguments, stopped)


def tool_name(server: str, tool: str, taken: set[str]) -> str:
    """`server__tool`, in the letters and the length that models' tools may have, and unlike those that are taken."""
    whole = f"{re.sub(r'[^A-Za-z0-9-]+', '_', server).strip('_')}__{re.sub(r'[^A-Za-z0-9_-]+', '_', tool)}"
    if len(whole) <= _LONGEST_NAME and whole not in taken:
        return whole
    mark = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:8]
    return f"{whole[: _LONGEST_NAME - len(mark) - 1]}_{mark}"
