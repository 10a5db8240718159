"""This room's base exception."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class ConvertError(NemotronError):
    """A checkpoint that cannot be converted, or a file that cannot be written."""
