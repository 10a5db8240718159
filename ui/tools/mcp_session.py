"""One MCP server: started or reached, asked for its tools, called; started once more where it has died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemotron_gguf.ui.tools.errors import ToolError
from nemotron_gguf.ui.tools.mcp_config import Server

if TYPE_CHECKING:
    from mcp import Client

MOST_TOOLS = 512  # of a server
_PATIENCE = 5.0  # seconds for a word of life
_RESTARTS = 1  # in a row; a call that succeeds begins the count anew


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as its server describes it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    reads_only: bool


class ServerSession:
    """The conversation with a server. All of it happens on one event loop.

    A connection belongs to the task that made it, so that a task of its own holds it open until it shall end.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._client: Client | None = None
        self._holder: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._lock = asyncio.Lock()
        self._restarts = 0

    async def start(self, seconds: float) -> list[ToolSpec]:
        """Its tools. Raises ToolError where it cannot be started, reached or understood in time."""
        await self._connect(seconds)
        assert self._client
        try:
            async with asyncio.timeout(seconds):
                return [spec async for spec in _tools(self._client)]
        except Exception as error:
            await self.close()
            raise ToolError(f"the MCP server {self.server.name} did not name its tools: {_words(error)}") from error

    async def call(self, tool: str, arguments: Mapping[str, Any], seconds: float) -> str:
        """A call's result as a text. Raises ToolError where it fails.

        A server that has died is started again once; the call is not repeated by itself where it may have been begun.
        """
        from mcp import MCPError

        await self._revive(seconds)
        assert self._client
        try:
            async with asyncio.timeout(seconds):
                result = await self._client.call_tool(tool, dict(arguments), read_timeout_seconds=seconds)
        except TimeoutError as error:
            raise ToolError(f"{tool} of the MCP server {self.server.name} took longer than {seconds:.0f} s") from error
        except MCPError as error:
            if await self._is_alive():
                raise ToolError(f"the MCP server {self.server.name} refused the call: {_words(error)}") from error
            raise self._died(tool) from error
        except Exception as error:
            raise self._died(tool) from error
        self._restarts = 0
        text = "\n".join(_texts(result.content)) or "The tool gave no text."
        if result.is_error:
            raise ToolError(text)
        return text

    async def close(self) -> None:
        """End the connection, and the server where it was started here."""
        self._ending.set()
        if self._holder:
            with contextlib.suppress(Exception):
                await self._holder
        self._client = self._holder = None

    def _died(self, tool: str) -> ToolError:
        self._client = None
        return ToolError(
            f"the MCP server {self.server.name} ended during the call of {tool}; what the call did is not known"
        )

    async def _is_alive(self) -> bool:
        """Whether a server still answers; one that takes long is busy, not dead."""
        if self._holder is None or self._holder.done() or self._client is None:
            return False
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._client.list_tools(cache_mode="bypass")
        except TimeoutError:
            return True
        except Exception:
            return False
        return True

    async def _revive(self, seconds: float) -> None:
        """Start it again where it has died. Raises ToolError where that has been tried."""
        async with self._lock:
            if await self._is_alive():
                return
            if self._restarts >= _RESTARTS:
                raise ToolError(f"the MCP server {self.server.name} has ended, and again after it was restarted")
            self._restarts += 1
            await self.close()
            await self._connect(seconds)

    async def _connect(self, seconds: float) -> None:
        self._ending = asyncio.Event()
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(self._hold(ready, self._ending))
        try:
            async with asyncio.timeout(seconds):
                self._client = await asyncio.shield(ready)
        except TimeoutError as error:
            self._holder.cancel()
            await asyncio.wait([self._holder])
            raise ToolError(f"the MCP server {self.server.name} did not answer within {seconds:.0f} s") from error

    async def _hold(self, ready: asyncio.Future[Client], ending: asyncio.Event) -> None:
        """Connect, and stay connected until it shall end."""
        with _log_file() as log:
            try:
                async with _connected(self.server, log) as client:
                    ready.set_result(client)
                    await ending.wait()
            except Exception as error:
                if not ready.done():
                    last = _last_line(log)
                    said = f" (it said: {last})" if last else ""
                    words = f"the MCP server {self.server.name} cannot be started: {_words(error)}{said}"
                    ready.set_exception(ToolError(words))


@contextlib.asynccontextmanager
async def _connected(server: Server, log: Any) -> AsyncIterator[Client]:
    """A client that has shaken hands."""
    from mcp import Client, StdioServerParameters, stdio_client

    if not server.url:
        command, *words = server.command
        wanted = StdioServerParameters(command=command, args=words, env=dict(server.env) or None, cwd=server.cwd)
        async with Client(stdio_client(wanted, errlog=log)) as client:
            yield client
        return
    from httpx2 import AsyncClient, Timeout
    from mcp.client.streamable_http import streamable_http_client

    async with (
        AsyncClient(headers=dict(server.headers), timeout=Timeout(30, read=300)) as web,
        Client(streamable_http_client(server.url, http_client=web)) as client,
    ):
        yield client


async def _tools(client: Client) -> AsyncIterator[ToolSpec]:
    """All pages of a server's list."""
    cursor, count = None, 0
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools[: MOST_TOOLS - count]:
            hints = tool.annotations
            reads_only = bool(hints and hints.read_only_hint)
            yield ToolSpec(tool.name, tool.description or tool.title or tool.name, tool.input_schema, reads_only)
        count += len(page.tools)
        cursor = page.next_cursor
        if not cursor or count >= MOST_TOOLS:
            return


def _texts(content: Any) -> Iterator[str]:
    """What of a result can be told in words; a word for what cannot."""
    for part in content:
        resource = getattr(part, "resource", None)
        text = getattr(part, "text", None) or getattr(resource, "text", None)
        yield text if isinstance(text, str) else f"[{part.type}: it cannot be shown as text]"


@contextlib.contextmanager
def _log_file() -> Iterator[Any]:
    """Where a server's stderr goes: away from the screen, and kept for the case that it does not start."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        yield file


def _last_line(log: Any) -> str:
    size = os.fstat(log.fileno()).st_size
    log.seek(max(size - 4096, 0))
    return next((line.strip()[:200] for line in reversed(log.read().split("\n")) if line.strip()), "")


def _words(error: BaseException) -> str:
    """What an error says; of a group of them the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).split("\n")[0][:300]
