"""The frame of a page: its style for light and dark, its parts, and how it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import NamedTemporaryFile

GENERATOR = "nemotron-gguf"
"""By which a page that may be replaced is known."""

COLORS = ("#2f6f4f", "#b3541e", "#4657a8", "#9a2f5f", "#8a6d1d", "#2b7c8c", "#6b4a9c", "#56602f")
"""One for each file, readable on white and on black."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f1d; --soft: #5d6661; --line: #d7dcd9; --ground: #fbfcfb; --raised: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ece9; --soft: #9aa5a0; --line: #363d39; --ground: #141715; --raised: #1b1f1d }
  .series { filter: brightness(1.55) }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.55 system-ui, sans-serif }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; text-wrap: balance }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem }
p { max-width: 46rem; margin: .4rem 0; color: var(--soft) }
figure { margin: .8rem 0 0; padding: .8rem; overflow-x: auto }
figure, .scroll { border: 1px solid var(--line); border-radius: 8px; background: var(--raised) }
svg { display: block; width: 100%; min-width: 40rem; height: auto }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .name { fill: var(--ink) }
svg .axis { stroke: var(--line); stroke-width: 1 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .4rem .8rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line) }
th { font-weight: 600 }
tr:first-child > * { border-top: 0 }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--raised) }
.error { color: var(--soft) }
code { font: .92em ui-monospace, monospace }
pre { margin: .4rem 0; padding: .7rem .9rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background: var(--raised) }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; overflow-wrap: anywhere }
details { margin: .8rem 0 } summary { cursor: pointer; color: var(--soft) }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0 0; padding: 0; list-style: none }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border-radius: 2px }
"""


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """A whole page; `lead` is a sentence under the title, sections are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{GENERATOR}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1><p>{escape(lead)}</p>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def section(title: str, words: str, content: str) -> str:
    """A part of a page: its heading, what is to be known of it, and HTML."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(words)}</p>{content}</section>"


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Names and their colours, below a picture."""
    items = (f'<li><i class="series" style="background:{color}"></i>{escape(name)}</li>' for name, color in entries)
    return f'<ul class="legend">{"".join(items)}</ul>'


def folded(title: str, content: str) -> str:
    """HTML that is shown when its title is chosen."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def commands(lines: Sequence[str]) -> str:
    """Lines to be typed."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a table; the first row and column are headings, what follows ± is set back."""
    head, *body = rows
    made = "<tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head) + "</tr>"
    for first, *cells in body:
        made += (
            f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{_cell(cell)}</td>" for cell in cells) + "</tr>"
        )
    return f'<div class="scroll"><table>{made}</table></div>'


def _cell(text: str) -> str:
    value, mark, error = escape(text).partition(" ± ")
    return f'{value}<span class="error">{mark}{error}</span>' if mark else value


def write_page(path: Path, content: str) -> None:
    """Write a page, which gets its name when it is complete. Raises OSError."""
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False) as file:
        part = Path(file.name)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
