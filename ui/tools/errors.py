"""This package's errors."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class ToolError(NemotronError):
    """A call that failed, or a tool that cannot be had: a sentence for the model, or for the person."""


class ConfigError(ToolError):
    """A file of MCP servers that cannot be used."""
