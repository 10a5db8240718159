"""A text with a name, as it goes with a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nemotron_gguf.ui import console

Kind: TypeAlias = Literal["text", "code", "markdown", "csv", "pdf", "docx"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's text: the name that the model is told (empty for a pipe's), what the file is, and a word about it.

    `note`: rows and columns, pages, or an encoding that had to be found out; empty where there is nothing to say.
    """

    name: str
    kind: Kind
    text: str
    note: str = ""

    def describe(self) -> str:
        """Name and size for a person."""
        lines = self.text.count("\n") + (not self.text.endswith("\n"))
        shown = self.name if self.name.isprintable() else ascii(self.name)
        size = console.size(len(self.text.encode("utf-8", "replace")))
        note = f", {self.note}" if self.note else ""
        return f"{shown or 'the pipe'}: {size}, {lines} line{'' if lines == 1 else 's'}{note}"
