"""The root of every error that a user can cause, and this room's own."""

from __future__ import annotations

LONGEST = 400  # characters of a message that quotes a file


class NemotronError(Exception):
    """Something the world got wrong: the message says what, what was found, what was expected and what to do."""

    is_misuse = False  # whether a command was given wrongly, which nothing but another command mends


class ModelError(NemotronError):
    """A model file that is not what it claims to be."""


class GGUFError(ModelError):
    """A file that is no sound GGUF."""


def printable(text: str) -> str:
    """Text for a message, whose parts come from a file that may be hostile: one short line, no control characters."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown}… ({len(text)} characters)"
