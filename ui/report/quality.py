"""The page of `nemotron eval --html`: figures of all files, divergence against size, how it is spread over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nemotron_gguf.runner.measure.evaluation import Evaluation, Reference
from nemotron_gguf.runner.measure.exam import Marks
from nemotron_gguf.runner.measure.values import KL
from nemotron_gguf.ui.eval_tables import figures
from nemotron_gguf.ui.report.charts import Axis, Line, Point, curves, scatter
from nemotron_gguf.ui.report.page import COLORS, page, section, table, write_page

_SHARES = np.concatenate([np.arange(1, 100), [99.5, 99.9]])  # per cent of the tokens
_LEAST = 1e-5  # of the largest: what is smaller has nothing to tell


def write_report(path: Path, found: Sequence[Evaluation], reference: Reference | None, marks: Sequence[Marks]) -> None:
    """Write the page. Raises OSError."""
    against = f", compared with {reference.name}" if reference else ""
    lead = f"{len(found[0].values)} predictions of each file{against}. Errors are standard errors over tokens."
    write_page(path, page("What these files are worth", lead, sections(found, marks)))


def sections(found: Sequence[Evaluation], marks: Sequence[Marks] = ()) -> list[str]:
    """The parts of the page, for other pages to take up."""
    made = [
        section("Figures", "Divergences are in nats; lower is nearer to the reference.", table(figures(found, marks)))
    ]
    if not all(one.compared for one in found):
        return made
    words = "The mean divergence of the predictions, on a logarithmic scale. A file against itself has none."
    made.append(section("Divergence against size", words, against_size(found)))
    if any(one.values[:, KL].any() for one in found):
        words = "For how many of the tokens the divergence stays below a value: the far end is where a file goes wrong."
        made.append(section("Spread over tokens", words, spread(found)))
    return made


def against_size(found: Sequence[Evaluation]) -> str:
    """A point for each file: its size, its mean divergence with the error."""
    unit, name = (1e9, "GB") if max(one.nbytes for one in found) >= 1e9 else (1e6, "MB")
    points = []
    for index, one in enumerate(found):
        mean = one.divergence.kl_mean
        points.append(Point(one.path.stem, _color(index), one.nbytes / unit, mean.value, mean.error or 0.0))
    return scatter(points, Axis(f"size of the file, {name}"), Axis("mean KL divergence, nats", logarithmic=True))


def spread(found: Sequence[Evaluation]) -> str:
    """A curve for each file: quantiles of its tokens' divergences."""
    lines = []
    for index, one in enumerate(found):
        values = np.quantile(one.values[:, KL], _SHARES / 100)
        pairs = zip(_SHARES.tolist(), values.tolist(), strict=True)
        points = [(share, value) for share, value in pairs if value > _LEAST * max(values)]
        lines.append(Line(one.path.stem, _color(index), points))
    return curves(
        [line for line in lines if line.points],
        Axis("share of the tokens, %"),
        Axis("KL divergence, nats", logarithmic=True),
    )


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]
