"""A table as rows of text: columns as wide as they need to be, narrower where the terminal is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.text import Text

from nemotron_gguf.ui.terminal.wrap import wrap

GAP = " │ "
NARROWEST = 6  # cells a column needs before the table is told as a list instead


def table_rows(cells: Sequence[Sequence[Text]], aligned: Sequence[str], width: int) -> Iterator[Text]:
    """Rows of at most `width` cells. The first of `cells` are the headings; `aligned`: left, right or center."""
    wishes = [max(_widest(row[column]) for row in cells) for column in range(len(cells[0]))]
    widths = _fit(wishes, width - len(GAP) * (len(wishes) - 1))
    if widths is None:
        yield from _as_list(cells, width)
        return
    head, *body = cells
    yield from _line([_styled(cell, "bold") for cell in head], aligned, widths)
    yield Text("─┼─".join("─" * size for size in widths), style="dim")
    for row in body:
        yield from _line(row, aligned, widths)


def _widest(cell: Text) -> int:
    return max(cell_len(line) for line in cell.plain.split("\n"))


def _fit(wishes: Sequence[int], room: int) -> list[int] | None:
    """The widest columns give way until all fit; None where they cannot."""
    widths = [max(wish, 1) for wish in wishes]
    while sum(widths) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            return None
        widths[widest] -= 1
    return widths


def _line(cells: Sequence[Text], aligned: Sequence[str], widths: Sequence[int]) -> Iterator[Text]:
    wrapped = [wrap(cell, size) for cell, size in zip(cells, widths, strict=True)]
    for parts in zip_longest(*wrapped):
        row = Text()
        for column, (part, size) in enumerate(zip(parts, widths, strict=True)):
            if column:
                row.append(GAP, style="dim")
            row.append_text(_placed(part or Text(), aligned[column], size))
        row.rstrip()
        yield row


def _placed(part: Text, aligned: str, size: int) -> Text:
    free = max(size - cell_len(part.plain), 0)
    left = {"right": free, "center": free // 2}.get(aligned, 0)
    return Text.assemble(" " * left, part, " " * (free - left))


def _as_list(cells: Sequence[Sequence[Text]], width: int) -> Iterator[Text]:
    """Each row as lines of `heading: value`, for a terminal that is too narrow for columns."""
    head, *body = cells
    for index, row in enumerate(body):
        if index:
            yield Text("─" * min(width, 8), style="dim")
        for name, cell in zip(head, row, strict=True):
            yield from wrap(Text.assemble(_styled(name, "bold"), ": ", cell), width)


def _styled(text: Text, style: str) -> Text:
    copy = text.copy()
    copy.stylize(style)
    return copy
