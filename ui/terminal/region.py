"""The last rows of a terminal, drawn again and again while something grows; what is finished moves up for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"  # the terminal shows what is between them at once, if it can
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"  # a row that the terminal finds wider than we do is cut, not continued below
ERASE_RIGHT = "\x1b[K"
# Rows below are erased from behind the last one: some terminals keep in their history what is erased from the very top.
ERASE_BELOW = "\x1b[J"
ERASE_ALL = "\x1b[K\x1b7\x1b[B\x1b[J\x1b8"


class Region:
    """Rows at the bottom, never more than the screen has. The cursor stands behind the last one."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.drawn: list[str] = []
        self.cells: list[int] = []
        self.columns = 0

    @property
    def size(self) -> tuple[int, int]:
        """Columns to write in and rows that a region may have."""
        width, height = self.console.size
        return max(width - 1, 10), max(height - 1, 2)

    def show(self, rows: Sequence[Text], above: Sequence[Text] = ()) -> None:
        """Draw these rows in place of those that are there, after printing `above` for good."""
        rows = rows[-self.size[1] :]
        drawn = [self._codes(row) for row in rows]
        if drawn == self.drawn and not above:
            return
        kept = 0 if above else _common(drawn, self.drawn)
        parts = [BEGIN, self._back_to(kept)]
        parts += [self._codes(row) + ERASE_RIGHT + "\n" for row in above]
        parts += [NO_WRAP, "\n".join(row + ERASE_RIGHT for row in drawn[kept:]), WRAP]
        parts += [ERASE_BELOW if drawn else ERASE_ALL, END]
        self.drawn, self.cells = drawn, [cell_len(row.plain) for row in rows]
        self.columns = self.console.size.width
        self.console.file.write("".join(parts))
        self.console.file.flush()

    def forget(self) -> None:
        """Others have written to the terminal: what was drawn stays where it is."""
        self.drawn, self.cells = [], []

    def _back_to(self, kept: int) -> str:
        """Bring the cursor to the beginning of row `kept`. A terminal that became narrower has broken longer rows."""
        width = self.console.size.width
        rows = [max(1, -(-cells // width)) if width < self.columns else 1 for cells in self.cells[kept:]]
        up = sum(rows) - 1
        return f"\x1b[{up}A\r" if up > 0 else "\r"

    def _codes(self, row: Text) -> str:
        with self.console.capture() as capture:
            self.console.print(row, end="", soft_wrap=True)
        return capture.get()


def _common(new: Sequence[str], old: Sequence[str]) -> int:
    """How many rows stay as they are; the last one of each is always drawn again, for the cursor's sake."""
    count = 0
    for one, other in zip(new[:-1], old[:-1], strict=False):
        if one != other:
            break
        count += 1
    return count
