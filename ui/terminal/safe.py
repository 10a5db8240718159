"""What a model says can be shown: characters that command a terminal are taken out."""

from __future__ import annotations

_CONTROLS = dict.fromkeys(set(range(32)) - {ord("\n"), ord("\t")} | set(range(127, 160)))


def whole(text: str) -> str:
    """A text that can be written as UTF-8: halves of characters, from keyboards and arguments, become `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def safe(text: str) -> str:
    """A text without control characters; line ends and tabs stay."""
    return text.translate(_CONTROLS)
