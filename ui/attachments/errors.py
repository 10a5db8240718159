"""This package's error."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class AttachmentError(NemotronError):
    """A file that cannot go with a message: what was found, what was expected, what to do."""
