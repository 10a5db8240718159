"""What is typed while an answer comes: messages that Enter has sent already, and a line that was begun."""

from __future__ import annotations

import re

from nemotron_gguf.ui.terminal.prompt import is_open

_KEY = re.compile(
    r"\x1b\[200~(?P<pasted>.*?)(?:\x1b\[201~|\Z)|(?P<broken>\x1b[\r\n])"
    r"|(?P<other>\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?)|.",
    re.DOTALL,
)
"""A paste, Alt-Enter, another key that is no letter, a letter."""


def typed_ahead(keys: str, line: str = "") -> tuple[list[str], str]:
    r"""The messages that were sent, in their order, and the line that was not; `line` stood there already.

    As in the editor, Enter sends, but not from within a paste or an open message, and not an empty line.

    >>> typed_ahead("\rfirst\rsecond\x1b\rline\rthe")
    (['first', 'second\nline'], 'the')
    """
    sent: list[str] = []
    for key in _KEY.finditer(keys):
        if key["pasted"] is not None:
            line += _printable(key["pasted"].replace("\r\n", "\n").replace("\r", "\n"))
        elif key["broken"] or (key[0] in "\r\n" and is_open(line)):
            line += "\n"
        elif key[0] in "\r\n":
            sent += [line] if line.strip() else []
            line = ""
        elif key[0] in "\x7f\b":
            line = line[:-1]
        elif not key["other"]:
            line += _printable(key[0])
    return sent, line


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")
