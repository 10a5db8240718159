"""What may be asked of an answer: its numbers and its texts, checked before the engine hears of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nemotron_gguf.runner.errors import GrammarError, RunnerError

if TYPE_CHECKING:
    from nemotron_gguf.runner.grammar.graph import Grammar
    from nemotron_gguf.runner.grammar.schema.keywords import Schema

MAX_LOGPROBS = 100


def check_limits(
    max_tokens: int | None, top_logprobs: int | None, stop: Sequence[str], budget: int | None = None
) -> None:
    """Raises RunnerError for numbers that make no sense, for one text in the place of several, and for an empty one."""
    if budget is not None and type(budget) is not int:
        raise RunnerError(f"budget is {budget!r}, expected a whole number of tokens; a negative one sets no bound")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise RunnerError(f"max_tokens is {max_tokens!r}, expected a whole number from 1 on")
    if top_logprobs is not None and (type(top_logprobs) is not int or not 0 <= top_logprobs <= MAX_LOGPROBS):
        raise RunnerError(f"top_logprobs is {top_logprobs!r}, expected 0 to {MAX_LOGPROBS}")
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise RunnerError(f"stop is {stop!r}, expected a list of texts, none of them empty")


def shape_of(
    grammar: str | None, json_schema: Schema | str | None, opening: str | None, tools: Sequence[object] = ()
) -> Grammar | None:
    """The grammar of an answer's form, None where it has none; `opening` as in `grammar_of`. Raises GrammarError."""
    if grammar is None and json_schema is None:
        return None
    if tools:
        raise GrammarError("an answer in a form of its own cannot call tools; leave out the tools, or the form")
    from nemotron_gguf.runner.grammar.wish import grammar_of  # which few answers need

    return grammar_of(grammar, json_schema, opening)
