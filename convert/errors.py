"""This room's base exception."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class ConvertError(NemotronError):
    """A checkpoint that cannot be converted, or a file that cannot be written."""


class Interrupted(ConvertError):  # noqa: N818 - it is no fault of anybody, and what is done is kept
    """A failure that running the same command again may cure: a lost network, a full disk. What is done is kept."""
