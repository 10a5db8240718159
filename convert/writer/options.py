"""How files are to be written, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `phase` is checking (what an earlier run left), writing or verifying; sizes in bytes.

    While writing, `done` and `total` count the bytes read from the source, otherwise those read back of the outputs;
    `tensor` is the one in hand and `written` the bytes of each output that are made.
    """

    phase: str
    done: int
    total: int
    tensor: str = ""
    written: tuple[int, ...] = ()


Report: TypeAlias = Callable[[Progress], None]
"""Called from the thread that called `write_files`, often."""


@dataclass(frozen=True)
class WriteOptions:
    """How to write. `source` is what identifies the source, JSON-able; without it an unfinished run leaves nothing.

    `threads` encode (all cores if None), `readers` read ahead. `force` replaces files that exist, `restart` forgets
    what an earlier run left, `verify` reads back what was written. `say` takes sentences for whoever waits.
    """

    source: Mapping[str, Any] | None = None
    threads: int | None = None
    readers: int = 2
    force: bool = False
    restart: bool = False
    verify: bool = True
    report: Report = lambda _: None
    say: Callable[[str], None] = lambda _: None
