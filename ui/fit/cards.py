"""`nemotron fit --list-cards`: what file and what context usual cards run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nemotron_gguf.ui import console
from nemotron_gguf.ui.fit.goal import CONTEXT, use_with
from nemotron_gguf.ui.fit.room import longest_context, needs_of_plan, sum_of
from nemotron_gguf.ui.fit.show import main_types, tokens, widths
from nemotron_gguf.ui.memory import parse_context

if TYPE_CHECKING:
    from nemotron_gguf.models.needs import Use
    from nemotron_gguf.quant.fit.choice import Problem
    from nemotron_gguf.ui.fit.study import Study

GIB = 1 << 30
CARDS = tuple(size * GIB for size in (8, 12, 16, 24, 32))
RESERVES = {"free": GIB // 2, "desktop": GIB}
LEAST = 4096  # tokens: a shorter context is no use


def list_cards(found: Study, context: str | None, parallel: int, cache_type: str | None, *, as_json: bool) -> None:
    """Print two lines a card, free and driving a desktop, with the sum behind each."""
    use = use_with(parse_context(context or CONTEXT), parallel, cache_type)
    rows: list[dict[str, object]] = []
    problems: dict[int, list[Problem]] = {}
    for memory in CARDS:
        for name, reserve in RESERVES.items():
            rows.append(_row(found, use, memory, name, reserve, problems))
    if as_json:
        console.print_json({"cards": rows})
        return
    _show(rows)


def _row(
    found: Study, use: Use, memory: int, name: str, reserve: int, problems: dict[int, list[Problem]]
) -> dict[str, object]:
    """The best file for a card with the context wished for, or with half of it as often as needed."""
    from nemotron_gguf.quant.fit.choice import choose

    room, size = memory - reserve, use.ctx_size
    while True:
        if size not in problems:
            problems[size] = found.problems(replace(use, ctx_size=size))
        choice = choose(problems[size], room)
        if choice is not None or size // 2 < LEAST:
            break
        size //= 2
    row: dict[str, object] = {"memory": memory, "use": name, "reserve": reserve, "fits": choice is not None}
    if choice is None:
        return row
    needs = needs_of_plan(choice.sketch(found.imatrix))
    parts = sum_of(needs, replace(use, ctx_size=size))
    return row | {
        "bytes": choice.nbytes, "context": size, "longest_context": longest_context(needs, use, room),
        "predicted": choice.loss, "bits_per_weight": 8 * choice.nbytes / found.source.n_weights,
        "experts": main_types(choice), "widths": widths(choice), "weights": parts.weights, "cache": parts.cache,
        "state": parts.state, "compute": parts.compute, "host": parts.host,
    }  # fmt: skip


def _show(rows: list[dict[str, object]]) -> None:
    from nemotron_gguf.runner.placement.words import amount
    from nemotron_gguf.ui.placing import table

    head = ("card", "file", "bits", "context", "at most", "predicted", "experts", "widths", "weights", "cache", "state",
            "compute", "kept free", "beside it")  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        card = f"{_int(row, 'memory') // GIB} GiB, {row['use']}"
        if not row["fits"]:
            lines.append((card, "nothing fits", *[""] * (len(head) - 2)))
            continue
        sizes = (amount(_int(row, part)) for part in ("weights", "cache", "state", "compute", "reserve", "host"))
        lines.append((
            card, f"{_int(row, 'bytes') / 1e9:.2f} GB", f"{float(str(row['bits_per_weight'])):.2f}",
            tokens(_int(row, "context")), tokens(_int(row, "longest_context")), f"{float(str(row['predicted'])):.3g}",
            str(row["experts"]), str(row["widths"]), *sizes,
        ))  # fmt: skip
    table(lines)


def _int(row: dict[str, object], key: str) -> int:
    return int(str(row[key]))
