"""Markdown as rows of styled text, each no wider than the terminal. Nothing that a model wrote is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from rich.text import Text

from nemotron_gguf.ui.terminal.safe import safe
from nemotron_gguf.ui.terminal.tables import table_rows
from nemotron_gguf.ui.terminal.wrap import wrap

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

CODE_THEME = "ansi_dark"  # the sixteen colours of the terminal itself, so that its background may be any
STYLES = {"strong": "bold", "em": "italic", "s": "strike"}
HEADINGS = {"h1": "bold underline", "h2": "bold", "h3": "bold italic"}


@cache
def _parser() -> MarkdownIt:
    """CommonMark with tables, without what would make words of an answer vanish: HTML and link definitions.

    A line of dashes under a paragraph is a rule, as models mean it, and not a heading.
    """
    from markdown_it import MarkdownIt

    rules = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return rules.disable(["lheading", "reference"])


def parse(source: str) -> list[SyntaxTreeNode]:
    """The blocks of a text at its top level, in their order; each has its lines in `map` (first, behind the last)."""
    from markdown_it.tree import SyntaxTreeNode

    return list(SyntaxTreeNode(_parser().parse(source)).children)


def block_rows(node: SyntaxTreeNode, width: int) -> Iterator[Text]:
    """A block as rows."""
    if node.type in ("paragraph", "heading", "inline"):
        text = _inline(node.children[0] if node.type != "inline" else node)
        if node.type == "heading":
            text.stylize(HEADINGS.get(node.tag, "italic"))
        yield from wrap(text, width)
    elif node.type in ("fence", "code_block"):
        yield from code_rows(node.content, node.info, width)
    elif node.type in ("bullet_list", "ordered_list"):
        for item in node.children:
            yield from item_rows(item, width)
    elif node.type == "blockquote":
        for row in _stacked(node.children, width - 2):
            yield Text.assemble(("│ ", "dim"), row)
    elif node.type == "hr":
        yield Text("─" * width, style="dim")
    elif node.type == "table":
        yield from _table(node, width)
    else:
        yield from wrap(Text(safe(node.content)), width)


def item_rows(item: SyntaxTreeNode, width: int) -> Iterator[Text]:
    """An item of a list: its mark or number, and its blocks beside it."""
    mark = f"{_number(item)}{item.markup} " if item.parent and item.parent.type == "ordered_list" else "• "
    for index, row in enumerate(_stacked(item.children, width - len(mark)) if item.children else [Text()]):
        yield Text.assemble(mark if index == 0 else " " * len(mark), row)


def _number(item: SyntaxTreeNode) -> int:
    assert item.parent is not None
    return int(item.parent.attrs.get("start", 1)) + item.parent.children.index(item)


def _stacked(nodes: Sequence[SyntaxTreeNode], width: int) -> Iterator[Text]:
    """Blocks within a block; an empty row between those that are not a list under its paragraph."""
    for index, node in enumerate(nodes):
        if index and not node.type.endswith("_list"):
            yield Text()
        yield from block_rows(node, max(width, 8))


def code_rows(code: str, info: str, width: int, *, skip: int = 0, more: bool = False) -> Iterator[Text]:
    """Highlighted code between two lines, without its first `skip` lines; `more` where the last line is not there yet.

    The code stands at the left edge and nothing is beside it, so that it can be copied.
    """
    name = safe(info).split(maxsplit=1)[0] if info.split() else ""
    if not skip:
        title = f"── {name} " if name else ""
        yield Text(title + "─" * max(min(width, 40) - len(title), 2), style="dim")
    for line in _highlighted(safe(code).removesuffix("\n").expandtabs(4), name)[skip:]:
        yield from wrap(line, width)
    if not more:
        yield Text("─" * min(width, 40), style="dim")


def _highlighted(code: str, language: str) -> Sequence[Text]:
    from rich.syntax import Syntax

    text = Syntax(code, language or "text", theme=CODE_THEME, background_color="default").highlight(code)
    lines = list(text.split("\n", allow_blank=True))
    return lines[: code.count("\n") + 1]  # highlighting may add a line end


def _table(node: SyntaxTreeNode, width: int) -> Iterator[Text]:
    found = [row for part in node.children for row in part.children]
    aligned = [str(cell.attrs.get("style", "")).rpartition(":")[2] for cell in found[0].children]
    cells = [[_inline(cell.children[0]) if cell.children else Text() for cell in row.children] for row in found]
    yield from table_rows(cells, aligned, width)


def _inline(node: SyntaxTreeNode) -> Text:
    """Words with their styles. A line end stays one: models break lines where they mean it."""
    text = Text()
    for child in node.children:
        if child.type in ("softbreak", "hardbreak"):
            text.append("\n")
        elif child.type == "code_inline":
            text.append(safe(child.content), style="cyan")
        elif child.type in ("link", "image"):
            text.append_text(_link(child))
        elif child.children:
            part = _inline(child)
            part.stylize(STYLES.get(child.type, ""))
            text.append_text(part)
        else:
            text.append(safe(child.content).expandtabs(4))
    return text


def _link(node: SyntaxTreeNode) -> Text:
    """The words of a link, and where it leads unless they say it: no address is hidden behind other words."""
    words, target = _inline(node), safe(str(node.attrs.get("href") or node.attrs.get("src") or ""))
    words.stylize("underline")
    if node.type == "image":
        words = Text.assemble("[image: ", words, "]")
    if target and target.removeprefix("mailto:") != words.plain:
        words.append(f" ({target})", style="dim")
    return words


def markdown_rows(source: str, width: int) -> list[Text]:
    """A whole text as rows, an empty one between its blocks."""
    blocks = [list(block_rows(node, width)) for node in parse(source)]
    return list(chain.from_iterable([Text(), *block] if index else block for index, block in enumerate(blocks)))
