"""The options that say how tokens are drawn, and how long an answer may be: for every verb that answers."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import typer

DRAWING = "How tokens are drawn"
LENGTH = "How much is said"


def _number(text: str) -> Any:
    return typer.Option(metavar="X", help=text, rich_help_panel=DRAWING, show_default=False)


@dataclass(frozen=True)
class Drawing:
    """What is not given is left to the file, and then to llama.cpp's defaults."""

    temperature: Annotated[float | None, _number("0 takes the likeliest token; the file's word if not given.")] = None
    top_k: Annotated[int | None, _number("Draw from the X likeliest tokens; 0 from all.")] = None
    top_p: Annotated[float | None, _number("Draw from the likeliest tokens up to a probability of X.")] = None
    min_p: Annotated[float | None, _number("Leave out those less likely than X times the likeliest.")] = None
    typical_p: Annotated[float | None, _number("Locally typical sampling; 1 is off.")] = None
    top_n_sigma: Annotated[float | None, _number("Keep logits within X deviations of the highest; -1 is off.")] = None
    repeat_penalty: Annotated[float | None, _number("Divide the odds of what was said; 1 is off.")] = None
    presence_penalty: Annotated[float | None, _number("Subtract X for a token that was said; 0 is off.")] = None
    frequency_penalty: Annotated[float | None, _number("Subtract X for each time that it was said; 0 is off.")] = None
    repeat_last_n: Annotated[int | None, _number("Tokens that these penalties look back on; -1 all.")] = None
    dry_multiplier: Annotated[float | None, _number("Strength of DRY, against repeated sequences; 0 is off.")] = None
    dry_base: Annotated[float | None, _number("How DRY grows with the sequence's length.")] = None
    dry_allowed_length: Annotated[int | None, _number("Sequences up to this length are free.")] = None
    dry_last_n: Annotated[int | None, _number("Tokens that DRY looks back on; -1 all.")] = None
    xtc_probability: Annotated[float | None, _number("How often XTC leaves out the likeliest; 0 is off.")] = None
    xtc_threshold: Annotated[float | None, _number("Which count as likely for XTC.")] = None
    mirostat: Annotated[int | None, _number("1 or 2: Mirostat in place of what chooses by rank; 0 is off.")] = None
    mirostat_tau: Annotated[float | None, _number("Mirostat's target entropy.")] = None
    mirostat_eta: Annotated[float | None, _number("Mirostat's rate of learning.")] = None
    seed: Annotated[int | None, _number("The same seed gives the same answer.")] = None
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=X", help="Add X to a token's logit; may be repeated.", rich_help_panel=DRAWING),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End an answer before TEXT; may be repeated.", rich_help_panel=LENGTH),
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End an answer after N tokens.", rich_help_panel=LENGTH)
    ] = None
    context_overflow: Annotated[
        Literal["stop", "drop-oldest"],
        typer.Option(
            help="A conversation that no longer fits ends, or loses its oldest turns.", rich_help_panel=LENGTH
        ),
    ] = "stop"

    def wishes(self) -> dict[str, Any]:
        """As arguments of `runner.Settings`. Raises BadParameter for a bias that is none."""
        biases = tuple(_bias(text) for text in self.logit_bias or ())
        return {**asdict(self), "logit_bias": biases or None, "stop": tuple(self.stop or ())}


def _bias(text: str) -> tuple[int, float]:
    match = re.fullmatch(r"(\d{1,9})=([-+]?[\d.]{1,20})", text, re.ASCII)
    try:
        return int(match[1]), float(match[2])  # type: ignore[index]
    except (TypeError, ValueError):
        raise typer.BadParameter(f"{text!r} is no bias such as 15043=-5", param_hint="--logit-bias") from None
