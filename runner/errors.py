"""This room's base exception."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class RunnerError(NemotronError):
    """A model that cannot be loaded or run."""


class EngineBusyError(RunnerError):
    """The model is giving another answer, and can give but one at a time."""
