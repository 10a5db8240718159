"""This room's base exception."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class RunnerError(NemotronError):
    """A model that cannot be loaded or run."""
