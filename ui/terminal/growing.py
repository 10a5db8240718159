"""An answer in Markdown that is still growing: what of it is finished for good, and how the rest looks by now."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from nemotron_gguf.ui.terminal.markdown import block_rows, code_rows, item_rows, parse
from nemotron_gguf.ui.terminal.safe import safe

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

UNDECIDED = re.compile(r"(?:^|\n)[ \t]*[-=`~*_#>|+]+[ \t]*$")
"""A last line of marks alone, which may become anything."""


@dataclass(frozen=True)
class _Piece:
    """A block, or an item of a list, and the line of the source that it begins with."""

    node: SyntaxTreeNode
    line: int
    follows: bool  # it goes on with the list of the piece before

    def rows(self, width: int) -> Iterator[Text]:
        yield from (item_rows if self.node.type == "list_item" else block_rows)(self.node, width)


class Growing:
    """Text comes in by `feed`; `settle` gives the rows that no later text can change, once; `pending` the others."""

    def __init__(self) -> None:
        self.source = ""  # from the first block that may still change
        self.begun = False  # rows were given out
        self.list = ""  # the mark of the list whose item was given out last
        self.code_lines = 0  # lines of an unfinished code block that were given out

    def feed(self, text: str) -> None:
        """More of the answer."""
        self.source += safe(text)

    def settle(self, width: int, height: int) -> list[Text]:
        """Rows that are finished: blocks that others follow, and the lines of code that exceed `height` rows."""
        whole = self.source[: self.source.rfind("\n") + 1]  # half a line may turn out to begin no block
        pieces = self._pieces(whole)
        rows = [row for piece in pieces[:-1] for row in self._give(piece, width)]
        if len(pieces) > 1:
            self.source = "\n".join(self.source.split("\n")[pieces[-1].line :])
        if pieces and pieces[-1].node.type == "fence":
            rows += self._code(pieces[-1], width, height)
        return rows

    def finish(self, width: int) -> list[Text]:
        """All rows that were not given out; nothing more comes."""
        rows = [row for piece in self._pieces(self.source) for row in self._give(piece, width)]
        self.source = ""
        return rows

    def pending(self, width: int) -> list[Text]:
        """How the rest looks by now."""
        shown = Growing()
        shown.begun, shown.list, shown.code_lines = self.begun, self.list, self.code_lines
        shown.source = _presentable(self.source)
        return shown.finish(width)

    def _pieces(self, source: str) -> list[_Piece]:
        pieces: list[_Piece] = []
        for node in parse(source):
            assert node.map is not None, "blocks have lines"
            is_list = node.type in ("bullet_list", "ordered_list")
            for index, part in enumerate(node.children if is_list else [node]):
                goes_on = not pieces and part.markup == self.list
                pieces.append(_Piece(part, (part.map or node.map)[0], is_list and (index > 0 or goes_on)))
        return pieces

    def _give(self, piece: _Piece, width: int) -> Iterator[Text]:
        if self.code_lines:
            yield from code_rows(piece.node.content, piece.node.info, width, skip=self.code_lines)
        else:
            if self.begun and not piece.follows:
                yield Text()
            yield from piece.rows(width)
        self.begun, self.code_lines = True, 0
        self.list = piece.node.markup if piece.node.type == "list_item" else ""

    def _code(self, piece: _Piece, width: int, height: int) -> Iterator[Text]:
        """Lines of an unfinished code block that would not find room on the screen."""
        lines = piece.node.content.count("\n")
        ready = lines - max(height - 3, 1)
        if ready <= self.code_lines:
            return
        if self.begun and not self.code_lines:
            yield Text()
        given = "".join(line + "\n" for line in piece.node.content.split("\n")[:ready])
        yield from code_rows(given, piece.node.info, width, skip=self.code_lines, more=True)
        self.begun, self.list, self.code_lines = True, "", ready


def _presentable(source: str) -> str:
    """An unfinished text as it will probably look: open marks are closed, those that may become anything held back."""
    source = UNDECIDED.sub("", source)
    last = source.rpartition("\n\n")[2]
    if "```" in source or "~~~" in source:
        return source
    if last.count("`") % 2:
        return source + "`"
    if last.count("**") % 2:
        return source.removesuffix("*").removesuffix("*") if last.endswith("**") else source.rstrip() + "**"
    return source
