"""Tools that a model can call: small safe ones of our own, and those of MCP servers."""

from nemotron_gguf.ui.tools.box import ToolBox
from nemotron_gguf.ui.tools.errors import ConfigError, ToolError
from nemotron_gguf.ui.tools.tool import Tool

__all__ = ["ConfigError", "Tool", "ToolBox", "ToolError"]
