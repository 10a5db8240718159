"""The options that say which form an answer has, and what is told of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nemotron_gguf.ui.terminal.form import Form

MOST_ANSWERS = 128  # as many as the runner takes
PANEL = "The form of the answer"


def _file(text: str) -> Any:
    return typer.Option(metavar="FILE", help=text, rich_help_panel=PANEL)


@dataclass(frozen=True)
class Shaping:
    """One form at most; its reasoning stays free."""

    json_schema: Annotated[str | None, _file("A JSON schema (a file) that the answer has to satisfy.")] = None
    grammar: Annotated[str | None, _file("A grammar in GBNF (a file) that the answer has to follow.")] = None
    logprobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            metavar="N",
            help="With --json: each token's probability, and those of the N likeliest in its place.",
            rich_help_panel=PANEL,
        ),
    ] = None
    answers: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_ANSWERS,
            metavar="N",
            help="With --json: N answers to the one message, whose prompt is read once.",
            rich_help_panel=PANEL,
        ),
    ] = 1

    def read(self, as_json: bool, *, has_tools: bool = False) -> Form:
        """The form, from its file. Raises BadParameter for wishes that exclude one another, RunnerError for no form."""
        from nemotron_gguf.ui.terminal.form import read_form

        if self.json_schema is not None and self.grammar is not None:
            raise typer.BadParameter("an answer has one form; give --json-schema or --grammar", param_hint="--grammar")
        if self.logprobs is not None and not as_json:
            raise typer.BadParameter("they are shown by --json alone", param_hint="--logprobs")
        if self.answers > 1 and not as_json:
            raise typer.BadParameter("several answers are shown by --json alone", param_hint="--answers")
        if self.answers > 1 and has_tools:
            raise typer.BadParameter("tools are called in a conversation, not in one of many", param_hint="--answers")
        return read_form(self.json_schema, self.grammar, self.logprobs, self.answers)
