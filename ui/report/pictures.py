"""Pictures of a file: how its bytes are shared out, and which type lies where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from nemotron_gguf.ui.report.charts import WIDTH, figure

_LEFT, _RIGHT, _BAR, _CELL = 150, 70, 26, 20


def shares(rows: Sequence[tuple[str, Mapping[str, int], str]], colors: Mapping[str, str]) -> str:
    """A bar for each (name, bytes of each group, size in words), all on one scale."""
    most = max(sum(groups.values()) for _, groups, _ in rows)
    drawn = []
    for index, (name, groups, size) in enumerate(rows):
        top, x = 8 + index * (_BAR + 12), float(_LEFT)
        drawn.append(_words(_LEFT - 10, top + _BAR / 2 + 4, name, "end", "name"))
        for group, nbytes in groups.items():
            width = nbytes / most * (WIDTH - _LEFT - _RIGHT)
            title = f"<title>{escape(f'{name}: {group}, {nbytes / 1e6:,.1f} MB')}</title>"
            drawn.append(_box(x, top, width, _BAR, colors[group], title))
            x += width
        drawn.append(_words(x + 8, top + _BAR / 2 + 4, size, "start"))
    return figure(drawn, 8 + len(rows) * (_BAR + 12), "bytes of each group of tensors")


def types_by_layer(cells: Mapping[tuple[str, int], str], n_layers: int, colors: Mapping[str, str], title: str) -> str:
    """A row for each class, a column for each layer; `cells` maps (class, layer) to the name of a type.

    Layer −1 is what comes before the first, `n_layers` what comes behind the last.
    """
    names = list(dict.fromkeys(name for name, _ in cells))
    width = (WIDTH - _LEFT - 20) / (n_layers + 2)
    drawn = [_words(_LEFT - 10, 22 + row * _CELL, name, "end", "name") for row, name in enumerate(names)]
    for (name, layer), kind in cells.items():
        place = "" if not 0 <= layer < n_layers else f", layer {layer}"
        x, y = _LEFT + (layer + 1) * width, 8 + names.index(name) * _CELL
        drawn.append(
            _box(
                x + 0.5, y + 1, width - 1, _CELL - 2, colors[kind], f"<title>{escape(f'{name}{place}: {kind}')}</title>"
            )
        )
    below = 8 + len(names) * _CELL
    shown = range(0, n_layers, 5 if n_layers > 12 else 1)
    drawn += [_words(_LEFT + (layer + 1.5) * width, below + 16, str(layer), "middle") for layer in shown]
    drawn.append(_words((WIDTH + _LEFT) / 2, below + 36, "layer", "middle"))
    return figure(drawn, below + 44, title)


def _box(x: float, y: float, width: float, height: float, color: str, inside: str) -> str:
    at = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height}"'
    return f'<rect class="series" {at} fill="{color}">{inside}</rect>'


def _words(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
