"""Plots as SVG: points and lines between two axes, either of them logarithmic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 860, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 16, 48
_LABEL = 14  # pixels between two names


@dataclass(frozen=True)
class Axis:
    """What is plotted along it, and whether by its logarithm."""

    title: str
    logarithmic: bool = False


@dataclass(frozen=True)
class Point:
    """A file's place: `error` is drawn as a bar, `name` beside it."""

    name: str
    color: str
    x: float
    y: float
    error: float = 0.0


@dataclass(frozen=True)
class Line:
    """A file's curve through `(x, y)`."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Scale:
    """Numbers to pixels."""

    place: Callable[[float], float]
    ticks: Sequence[float]


def scatter(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """Points with their errors and names; those that a logarithm cannot place lie at the bottom."""
    spread = [point.y + sign * point.error for point in points for sign in (-1, 1)]
    across = _scale([point.x for point in points], x, _LEFT, WIDTH - _RIGHT)
    up = _scale(spread, y, HEIGHT - _BOTTOM, _TOP)
    names = _apart([(across.place(point.x), up.place(point.y)) for point in points])
    drawn = [_point(point, across, up, height) for point, height in zip(points, names, strict=True)]
    return _svg([*_axes(across, up, x, y), *drawn], f"{y.title} against {x.title}")


def curves(lines: Sequence[Line], x: Axis, y: Axis, *, dotted: bool = False) -> str:
    """Lines, with their names at the top left; `dotted`: with a dot for each number and without names."""
    across = _scale([place for line in lines for place, _ in line.points], x, _LEFT, WIDTH - _RIGHT)
    up = _scale([height for line in lines for _, height in line.points], y, HEIGHT - _BOTTOM, _TOP)
    drawn = []
    for index, line in enumerate(lines):
        path = " ".join(f"{across.place(a):.1f},{up.place(b):.1f}" for a, b in line.points)
        height = _TOP + 14 + 18 * index
        drawn.append(f'<polyline class="series" points="{path}" fill="none" stroke="{line.color}" stroke-width="2"/>')
        if dotted:
            drawn += [
                f'<circle class="series" cx="{across.place(a):.1f}" cy="{up.place(b):.1f}" r="3" fill="{line.color}"/>'
                for a, b in line.points
            ]
        else:
            drawn.append(
                f'<rect class="series" x="{_LEFT + 14}" y="{height - 9}" width="12" height="3" fill="{line.color}"/>'
                f'<text class="name" x="{_LEFT + 34}" y="{height - 3}">{escape(line.name)}</text>'
            )
    return _svg([*_axes(across, up, x, y), *drawn], f"{y.title} against {x.title}")


def _point(point: Point, across: _Scale, up: _Scale, height: float) -> str:
    x, y = across.place(point.x), up.place(point.y)
    low, high = up.place(point.y - point.error), up.place(point.y + point.error)
    anchor, shift = ("end", -10) if x > WIDTH * 0.75 else ("start", 10)
    return (
        f"<g><title>{escape(point.name)}: {point.x:.4g}, {point.y:.4g} ± {point.error:.2g}</title>"
        f'<line class="series" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{point.color}"/>'
        f'<circle class="series" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{point.color}"/>'
        f'<text class="name" x="{x + shift:.1f}" y="{height + 4:.1f}" text-anchor="{anchor}">'
        f"{escape(point.name)}</text></g>"
    )


def _apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Heights for names beside points, moved up and down so that neighbours do not cover each other."""
    heights = [y for _, y in places]
    order = sorted(range(len(places)), key=lambda index: places[index][1])
    for before, index in itertools.pairwise(order):
        if abs(places[before][0] - places[index][0]) < 260:
            heights[index] = max(heights[index], heights[before] + _LABEL)
    return [min(height, HEIGHT - _BOTTOM - 8) for height in heights]  # above the axis


def _scale(numbers: Sequence[float], axis: Axis, begin: float, end: float) -> _Scale:
    if axis.logarithmic:
        positive = [number for number in numbers if number > 0] or [1e-6, 1.0]
        low, high = floor(log10(min(positive))), ceil(log10(max(positive)))
        high = max(high, low + 1)
        ticks = [10.0**power for power in range(low, high + 1)]

        def place(number: float) -> float:
            power = log10(number) if number > 0 else low
            return begin + (end - begin) * (min(max(power, low), high) - low) / (high - low)

        return _Scale(place, ticks)
    least, most = min(numbers), max(numbers)
    step = _step((most - least) or abs(most) or 1.0)
    first, last = floor(least / step) * step, ceil(most / step + 1e-9) * step
    ticks = [first + index * step for index in range(round((last - first) / step) + 1)]
    return _Scale(lambda number: begin + (end - begin) * (number - first) / (last - first), ticks)


def _step(span: float) -> float:
    """A round distance of which there are four to ten in a span."""
    power: float = 10.0 ** floor(log10(span / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)


def _axes(across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[str]:
    drawn = []
    for tick in up.ticks:
        height = up.place(tick)
        drawn.append(
            f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    for tick in across.ticks:
        place = across.place(tick)
        drawn.append(f'<text x="{place:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:.4g}</text>')
    drawn.append(f'<text x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.title)}</text>')
    middle = (HEIGHT - _BOTTOM) / 2
    drawn.append(f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(y.title)}</text>')
    return drawn


def _svg(parts: Sequence[str], title: str) -> str:
    return figure(parts, HEIGHT, title)


def figure(parts: Sequence[str], height: int, title: str) -> str:
    """A picture of SVG elements, WIDTH across and so high; on a narrow screen it scrolls and stays readable."""
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg></figure>"
    )
