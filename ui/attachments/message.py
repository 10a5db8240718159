"""How attached texts enter a message; nobody else writes them into one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nemotron_gguf.runner.chat.messages import clean
from nemotron_gguf.ui.attachments.attachment import Attachment


def compose(message: str, attached: Sequence[Attachment]) -> str:
    """A message with its attachments behind it, each in a fence that nothing in it can close."""
    parts = [clean(message)] if message.strip() else []
    for one in attached:
        title = f"`{clean(one.name)}`{_about(one)}:\n" if one.name else ""
        parts.append(title + fenced(one.text))
    return "\n\n".join(parts)


def fenced(text: str, language: str = "") -> str:
    """A text as a block of code that nothing in it can close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"


def _about(one: Attachment) -> str:
    """What the model is told besides the name: of what the text was made, and how much it is."""
    kind = {"pdf": "text of a PDF", "docx": "text of a Word document"}.get(one.kind, "")
    words = ", ".join(filter(None, (kind, one.note)))
    return f" ({words})" if words else ""
