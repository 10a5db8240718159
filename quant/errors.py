"""This room's base exception."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class QuantError(NemotronError):
    """A file that cannot be quantized as asked."""
