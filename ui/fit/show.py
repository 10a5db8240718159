"""What `nemotron fit` shows: the sum behind a card, the table of the frontier, a plot in the terminal and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.ui import console
from nemotron_gguf.ui.placing import table

if TYPE_CHECKING:
    from nemotron_gguf.models.divergences import Divergence
    from nemotron_gguf.models.imatrix import Imatrix
    from nemotron_gguf.quant.fit.choice import Choice
    from nemotron_gguf.ui.fit.goal import Goal

PLOT_WIDTH, PLOT_HEIGHT = 60, 12


@dataclass(frozen=True)
class Row:
    """A file of the frontier; `context` in tokens is what fits the card, None where no card is meant."""

    choice: Choice
    bits_per_weight: float
    measured: Divergence | None
    context: int | None
    is_chosen: bool = False

    @property
    def best_known(self) -> float:
        """The divergence as measured, else as predicted."""
        return self.measured.mean if self.measured else self.choice.loss

    def describe(self) -> dict[str, object]:
        """For programs: bytes, bits, nats."""
        return {
            "bytes": self.choice.nbytes,
            "bits_per_weight": self.bits_per_weight,
            "predicted": self.choice.loss,
            "measured": asdict(self.measured) if self.measured else None,
            "context": self.context,
            "widths": widths(self.choice),
            "named": self.choice.named.name if self.choice.named else None,
            "types": {str(cell): kind.name for cell, kind in self.choice.types.items()},
            "chosen": self.is_chosen,
        }


def widths(choice: Choice) -> str:
    """`hidden padded, expert trimmed`, or a dash."""
    padded, trimmed = choice.alternative.pad, choice.alternative.trim
    words = [f"{dimension} padded" for dimension in sorted(padded)]
    words += [f"{dimension} trimmed" for dimension in sorted(trimmed.dimensions)] if trimmed else []
    return ", ".join(words) or "–"


def main_types(choice: Choice) -> str:
    """The types of the experts, which are most of the file; of all else where there are none; or a recipe's name."""
    if choice.named:
        return choice.named.name
    wanted = [cell for cell in choice.types if cell.name.startswith("expert")] or list(choice.types)
    return "/".join(dict.fromkeys(choice.types[cell].name for cell in wanted if cell.part == "middle"))


def show_rows(rows: Sequence[Row]) -> None:
    """The table of the frontier; the chosen file is marked."""
    has_context = any(row.context is not None for row in rows)
    head = ("", "size", "bits", "predicted", "measured", *(["context"] if has_context else []), "experts", "widths")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        measured = f"{row.measured.mean:.3g} ± {row.measured.error:.1g}" if row.measured else ""
        cells = [f"{row.choice.nbytes / 1e9:.3f} GB" if row.choice.nbytes >= 1e9 else console.size(row.choice.nbytes)]
        cells += [f"{row.bits_per_weight:.2f}", f"{row.choice.loss:.3g}", measured]
        cells += [tokens(row.context or 0)] if has_context else []
        lines.append(("→" if row.is_chosen else "", *cells, main_types(row.choice), widths(row.choice)))
    table(lines)


def tokens(count: int) -> str:
    """`128k`, or a dash for none."""
    return "–" if not count else f"{count >> 10}k" if count % 1024 == 0 else str(count)


def show_types(choice: Choice) -> None:
    """Which class has which types, a line each; of a named recipe its name."""
    if choice.named:
        console.say(f"  no mixture by classes was measured better than the named recipe {choice.named.name}")
    by_class: dict[str, dict[str, str]] = {}
    for cell, kind in choice.types.items():
        by_class.setdefault(cell.name, {})[cell.part] = kind.name
    for name, parts in by_class.items():
        kinds = list(dict.fromkeys(parts.values()))
        said = kinds[0] if len(kinds) == 1 else ", ".join(f"{part} {kind}" for part, kind in parts.items())
        console.say(f"  {name:17} {said}")


def words_of(choice: Choice, imatrix: Imatrix | None, goal: Goal) -> str:
    """The sum behind a card in one line."""
    from nemotron_gguf.runner.placement.words import amount
    from nemotron_gguf.ui.fit.room import needs_of_plan, sum_of

    assert goal.use
    found = sum_of(needs_of_plan(choice.sketch(imatrix)), goal.use)
    parts = [f"weights {amount(found.weights)}", f"{goal.use.ctx_size} tokens {amount(found.cache)}"]
    parts += [f"state {amount(found.state)}", f"computing {amount(found.compute)}", f"kept free {amount(goal.reserve)}"]
    left = goal.budget - found.total
    beside = f"{amount(found.host)} in the machine's memory (the embedding, inputs)"
    return f"{' + '.join(parts)} of {amount(goal.memory)}: {amount(left)} left; beside it {beside}"


def plot(rows: Sequence[Row]) -> list[str]:
    """Divergence over size in letters: o predicted, ● measured, both axes by their logarithm."""
    points = [(log(row.choice.nbytes), log(max(row.best_known, 1e-12)), row.measured is not None) for row in rows]
    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    across, up = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
    canvas = [[" "] * PLOT_WIDTH for _ in range(PLOT_HEIGHT)]
    for x, y, is_measured in points:
        column = round((x - min(xs)) / across * (PLOT_WIDTH - 1))
        line = round((max(ys) - y) / up * (PLOT_HEIGHT - 1))
        canvas[line][column] = "●" if is_measured else "o"
    values = sorted((row.best_known for row in rows), reverse=True)
    labels = {0: f"{values[0]:.2g}", PLOT_HEIGHT - 1: f"{values[-1]:.2g}"}
    lines = [f"{labels.get(number, ''):>8} │{''.join(line).rstrip()}" for number, line in enumerate(canvas)]
    sizes = [row.choice.nbytes for row in rows]
    ends = f"{console.size(min(sizes)):<{PLOT_WIDTH - 10}}{console.size(max(sizes)):>10}"
    return [*lines, " " * 8 + " └" + "─" * PLOT_WIDTH, " " * 10 + ends]


def write_html(path: Path, name: str, rows: Sequence[Row], cells: Mapping[str, Divergence]) -> None:
    """A page with the plot, the table and what was measured. Raises OSError."""
    from nemotron_gguf.ui.report.charts import Axis, Point, scatter
    from nemotron_gguf.ui.report.page import COLORS, page, section, write_page
    from nemotron_gguf.ui.report.page import table as html_table

    unit, word = (1e9, "GB") if max(row.choice.nbytes for row in rows) >= 1e9 else (1e6, "MB")
    points = [
        Point(f"{row.bits_per_weight:.2f}", COLORS[int(row.is_chosen)], row.choice.nbytes / unit, row.best_known,
              row.measured.error if row.measured else 0.0)
        for row in rows
    ]  # fmt: skip
    chart = scatter(points, Axis(f"size of the file, {word}"), Axis("mean KL divergence, nats", logarithmic=True))
    head = ("bits a weight", word, "predicted", "measured", "experts", "widths")
    lines = [head] + [
        (
            f"{row.bits_per_weight:.2f}", f"{row.choice.nbytes / unit:.3f}", f"{row.choice.loss:.4g}",
            f"{row.measured.mean:.4g} ± {row.measured.error:.1g}" if row.measured else "",
            main_types(row.choice), widths(row.choice),
        )
        for row in rows
    ]  # fmt: skip
    sections = [section("Divergence against size", "Each file named by its bits a weight.", chart)]
    sections.append(section("The frontier", "The best file of each size.", html_table(lines)))
    if cells:
        shown = [(key, f"{one.mean:.4g} ± {one.error:.1g}", f"{one.tokens}") for key, one in cells.items()]
        words = "The divergence of the model with that one class in that one type."
        sections.append(section("Measured", words, html_table([("changed", "nats a token", "tokens"), *shown])))
    write_page(path, page(f"{name}, fitted", "Mean KL divergence against the unquantized model, in nats.", sections))
