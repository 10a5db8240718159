"""The root of every error that a user can cause, and this room's own."""

from __future__ import annotations


class NemotronError(Exception):
    """Something the world got wrong: the message says what, what was found, what was expected and what to do."""


class ModelError(NemotronError):
    """A model file that is not what it claims to be."""


class GGUFError(ModelError):
    """A file that is no sound GGUF."""
