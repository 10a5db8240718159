"""Evaluations as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, log10
from typing import Any

from nemotron_gguf.runner.measure.evaluation import Evaluation, Reference
from nemotron_gguf.runner.measure.exam import Marks
from nemotron_gguf.runner.measure.statistics import Estimate, difference
from nemotron_gguf.ui import console

Row = tuple[str, ...]


def lines(found: Sequence[Evaluation], reference: Reference | None, marks: Sequence[Marks]) -> Iterator[str]:
    """What is said on a terminal."""
    first = found[0]
    told = f"{len(first.values)} predictions"
    yield f"{told}, against {reference.name} ({reference.path})" if reference else told
    yield ""
    yield from _columns(figures(found, marks))
    if len(found) > 1 and reference:
        yield ""
        yield "Mean divergence of each less that of another, paired over tokens, with standard errors:"
        yield from _columns(list(_differences(found)))


def figures(found: Sequence[Evaluation], marks: Sequence[Marks]) -> list[Row]:
    """A row for each number, a column for each file; the first row and column are headings."""
    rows: list[Row] = [("", *(one.path.stem for one in found))]
    rows.append(("size", *(console.size(one.nbytes) for one in found)))
    rows.append(("bits a weight", *(f"{one.bits_per_weight:.2f}" for one in found)))
    rows.append(("perplexity", *(shown(one.perplexity) for one in found)))
    if all(one.compared for one in found):
        rows += _compared(found)
    if marks:
        rows.append(("right answers", *(f"{mark.right} of {mark.total}" for mark in marks)))
    rows.append(("tokens/s", *(f"{one.n_tokens / one.seconds:.0f}" if one.n_tokens else "kept" for one in found)))
    return rows


def _compared(found: Sequence[Evaluation]) -> Iterator[Row]:
    all_of = [one.divergence for one in found]
    yield "ln(ppl / reference)", *(shown(one.log_ratio) for one in all_of)
    yield "KL mean", *(shown(one.kl_mean) for one in all_of)
    yield "KL median", *(shown(one.kl_median) for one in all_of)
    yield "KL 99 %", *(shown(one.kl_99) for one in all_of)
    yield "KL 99.9 %", *(shown(one.kl_999) for one in all_of)
    yield "KL max", *(shown(one.kl_max) for one in all_of)
    yield "same top token", *(share(one.top_1) for one in all_of)
    yield "top 5 in common", *(share(one.top_5) for one in all_of)
    yield "RMS of Δp", *(share(one.p_diff_rms) for one in all_of)


def _differences(found: Sequence[Evaluation]) -> Iterator[Row]:
    yield "", *(one.path.stem for one in found)
    for one in found:
        others = ("" if one is other else shown(difference(one.values, other.values), "+") for other in found)
        yield one.path.stem, *others


def shown(number: Estimate, plus: str = "") -> str:
    """`0.034545 ± 0.003017`: as many digits as the error, or the number where it has none, needs for four."""
    measure = abs(number.error or number.value)
    digits = min(max(3 - floor(log10(measure)), 0), 9) if measure else 6
    error = "" if number.error is None else f" ± {number.error:.{digits}f}"
    return f"{number.value:{plus}.{digits}f}{error}"


def share(number: Estimate) -> str:
    """`95.238 ± 0.548 %`."""
    error = "" if number.error is None else f" ± {100 * number.error:.3f}"
    return f"{100 * number.value:.3f}{error} %"


def _columns(rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells)).rstrip()


def described(found: Sequence[Evaluation], reference: Reference | None, marks: Sequence[Marks]) -> dict[str, Any]:
    """For `--json`: divergences in nats, shares of 1, errors over tokens."""
    files = []
    for index, one in enumerate(found):
        row: dict[str, Any] = {
            "file": str(one.path), "bytes": one.nbytes, "bits_per_weight": one.bits_per_weight,
            "predictions": len(one.values), "perplexity": one.perplexity.as_dict(),
            "tokens_read": one.n_tokens, "seconds": one.seconds, "model_seconds": one.model_seconds,
        }  # fmt: skip
        if one.compared:
            row["divergence"] = one.divergence.as_dict()
        if marks:
            row["questions"] = {"right": marks[index].right, "total": marks[index].total}
        files.append(row)
    pairs = [
        {"file": str(one.path), "less": str(other.path), **difference(one.values, other.values).as_dict()}
        for one in found
        for other in found
        if reference and one is not other
    ]
    about = {"name": reference.name, "logits": str(reference.path)} if reference else None
    return {"reference": about, "files": files, "differences": pairs}
