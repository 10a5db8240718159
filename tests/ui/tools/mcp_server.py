"""A small MCP server for the tests, over stdin and stdout."""

from __future__ import annotations

import os
import sys
import time

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)


def make() -> MCPServer:
    """Tools that read, write, fail, hang and die."""
    server = MCPServer("small")

    @server.tool(annotations=READS)
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    @server.tool()
    def write(text: str) -> str:
        """Write something."""
        return f"wrote {text}"

    @server.tool(annotations=READS)
    def fail() -> str:
        """Fail."""
        raise ValueError("no luck")

    @server.tool(annotations=READS)
    def pid() -> str:
        """This process, and what it was told."""
        return f"{os.getpid()} {os.environ.get('SMALL_WORD')}"

    @server.tool()
    def die() -> str:
        """End at once."""
        os._exit(3)

    @server.tool(annotations=READS)
    def hang() -> str:
        """Take very long."""
        time.sleep(600)
        return "never"

    return server


if __name__ == "__main__":
    if sys.argv[1:] == ["broken"]:
        sys.exit("small: I cannot find my settings")
    make().run()
