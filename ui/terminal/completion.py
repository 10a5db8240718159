"""What Tab offers: commands, their words, and paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from nemotron_gguf.ui.terminal.commands import COMMANDS, find

Offer: TypeAlias = tuple[str, int, str]
"""A word, how many characters before the cursor it replaces, what it means."""
MOST = 200


def completions(before: str) -> Sequence[Offer]:
    """Offers for the text before the cursor."""
    if not before.startswith("/") or "\n" in before:
        return []
    name, space, rest = before.partition(" ")
    if not space:
        found = [one for one in COMMANDS if one.name.startswith(name)]
        return [(one.name + (" " if one.takes_path else ""), len(name), one.meaning) for one in found]
    command = find(name)
    if command is None:
        return []
    if command.takes_path:
        return list(_paths(rest))[:MOST]
    return [(word, len(rest), "") for word in command.choices if word.startswith(rest)]


def _paths(rest: str) -> Iterator[Offer]:
    """Files and folders that go on from the last word, with backslashes before spaces as in a shell."""
    escape = "" if sys.platform == "win32" else "\\"
    begun = _last_word(rest)
    plain = begun.replace(escape + " ", " ") if escape else begun
    folder, name = os.path.split(plain)
    try:
        found = sorted(Path(folder or ".").expanduser().iterdir())
    except (OSError, RuntimeError):
        return
    for path in found:
        if path.name.startswith(name) and path.name.isprintable() and (name or not path.name.startswith(".")):
            ending = path.name + (os.sep if path.is_dir() else "")
            yield ending.replace(" ", escape + " ") if escape else ending, len(begun) - _cut(begun), ""


def _last_word(text: str) -> str:
    """What follows the last space that no backslash stands before."""
    for index in range(len(text) - 1, -1, -1):
        if text[index] == " " and (sys.platform == "win32" or text[index - 1 : index] != "\\"):
            return text[index + 1 :]
    return text


def _cut(word: str) -> int:
    """How long the folder's part of a path is."""
    return len(word) - len(os.path.split(word)[1])
