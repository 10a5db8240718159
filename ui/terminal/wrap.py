"""Lines broken to a width in cells, by words and, in Chinese and Japanese, between characters."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import get_character_cell_size
from rich.text import Text

NOT_FIRST = frozenset("，。、！？；：）》」』】〕〉’”…—～·％!?;:,.)]}%")
"""What stands at no line's beginning (Unicode's line breaking classes CL, EX, NS; UAX #14)."""
NOT_LAST = frozenset("（《「『【〔〈‘“([{")


def wrap(text: Text, width: int) -> list[Text]:
    """Rows of at most `width` cells; a word longer than that is cut. An empty text is one empty row."""
    rows: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        for row in line.divide(_cuts(line.plain, max(width, 2))):
            row.rstrip()
            rows.append(row)
    return rows


def _cuts(line: str, width: int) -> list[int]:
    """Where rows begin, the first one left out. Spaces hang over the end of a row instead of beginning the next."""
    cuts: list[int] = []
    used, chance, since = 0, 0, 0  # cells of this row; the last place for a cut; cells of the row from there on
    for index, letter in enumerate(line):
        size = get_character_cell_size(letter)
        if index and _may_break(line[index - 1], letter):
            chance, since = index, 0
        while used + size > width and used and not letter.isspace():
            if chance <= (cuts[-1] if cuts else 0):
                chance, since = index, 0
            cuts.append(chance)
            used = since
        used += size
        since += size
    return cuts


def _may_break(before: str, after: str) -> bool:
    if after.isspace():
        return False
    if before.isspace():
        return True
    wide = get_character_cell_size(before) > 1 or get_character_cell_size(after) > 1
    return wide and after not in NOT_FIRST and before not in NOT_LAST


def rows_of(text: str, width: int, style: str = "") -> Iterator[Text]:
    """A plain text in one style, as rows."""
    yield from wrap(Text(text.expandtabs(4), style=style), width)
