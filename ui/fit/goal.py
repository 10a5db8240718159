"""What a file has to fit: a card with a context, a size, or bits a weight."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from nemotron_gguf.ui.memory import parse_context, parse_memory

if TYPE_CHECKING:
    from nemotron_gguf.models.needs import Use

CONTEXT = "128k"
RESERVE = "1GiB"  # the driver, and a desktop beside it; half of it is enough for a card without a display


@dataclass(frozen=True)
class Goal:
    """A budget in bytes, of a card where there is a `use`, else of the file; `name` is for the recipe and its file."""

    name: str
    budget: int
    use: Use | None = None
    memory: int = 0
    reserve: int = 0


def goal_of(
    memory: str | None,
    size: str | None,
    bpw: float | None,
    card: tuple[str | None, int, str | None, str],
    n_weights: int,
) -> Goal:
    """The budget of the options, `card` being context, sequences, type of the cache, reserve. BadParameter for others
    than one of the three ways to say it."""
    given = [name for name, value in (("--memory", memory), ("--size", size), ("--bpw", bpw)) if value is not None]
    if len(given) != 1:
        raise typer.BadParameter(f"expected one of --memory, --size and --bpw, found {' and '.join(given) or 'none'}")
    if memory is not None:
        return on_card(memory, *card)
    if size is not None:
        return Goal(size.replace(" ", ""), _size(size))
    assert bpw is not None
    return Goal(f"{bpw:g}bpw", int(bpw * n_weights / 8))


def on_card(memory: str, context: str | None, parallel: int, cache_type: str | None, reserve: str) -> Goal:
    """The budget of a card."""
    nbytes, kept = parse_memory(memory), _reserve(reserve)
    if kept >= nbytes:
        raise typer.BadParameter(f"{reserve} kept free of {memory} leave nothing", param_hint="--reserve")
    text = context or CONTEXT
    use = use_with(parse_context(text), parallel, cache_type)
    return Goal(f"{memory.replace(' ', '')}-{text}", nbytes - kept, use, nbytes, kept)


def use_with(tokens: int, parallel: int, cache_type: str | None) -> Use:
    """How the model will run. Raises BadParameter for a type that no cache has."""
    from nemotron_gguf.runner.errors import RunnerError
    from nemotron_gguf.runner.placement.wishes import cache_type as known
    from nemotron_gguf.ui.fit.room import use_of

    try:
        return use_of(tokens, parallel, known("--cache-type", cache_type))
    except RunnerError as error:
        raise typer.BadParameter(str(error), param_hint="--cache-type") from error


def _reserve(text: str) -> int:
    return 0 if re.fullmatch(r"0\w*", text.strip(), re.ASCII) else parse_memory(text)


def _size(text: str) -> int:
    """Bytes of 14.6GB or 13.6GiB."""
    match = re.fullmatch(r"\d+(?:\.\d+)?\s*[kmgt](i?b)?", text.strip().lower(), re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size of a file, expected one such as 14.6GB", param_hint="--size")
    # files are sold in decimal units: 14.6G is 14.6 GB
    return parse_memory(text if match[1] else f"{text.strip()}B")
