"""What every verb shares on the screen: errors, notes, JSON, a progress bar. Results go to stdout, words to stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Settings:
    """The options that stand before the verb."""

    debug: bool = False


settings = Settings()


def stderr() -> Console:
    """A rich console for words, notes and progress."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def error(message: str) -> None:
    """One line in red."""
    stderr().print(f"[bold red]nemotron:[/] {_plain(message)}")


def note(message: str) -> None:
    """One line that explains."""
    stderr().print(_plain(message), style="dim")


def say(message: str) -> None:
    """One line of the result, on stdout."""
    print(message, flush=True)


def print_json(value: object) -> None:
    """The result for a program."""
    json.dump(value, sys.stdout, indent=1)
    print(flush=True)


def _plain(message: str) -> str:
    from rich.markup import escape

    return escape(message)


def size(nbytes: int) -> str:
    """Bytes for people, in decimal units as disks and download pages count them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.3g} {unit}" if nbytes < 1e3 * factor else f"{nbytes / factor:.0f} {unit}"
    return f"{nbytes} bytes"
