"""This package's errors, each a sentence with a way out."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class ChatError(NemotronError):
    """Something the page cannot do, and what can be done instead."""


class StoreError(ChatError):
    """The file of conversations cannot be read or written."""


class ExchangeError(ChatError):
    """A file that holds no conversations."""


class AnsweringError(ChatError):
    """There is an answer under way where another was asked for."""
