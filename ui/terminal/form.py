"""The form of an answer, from the files that the command line names: read and checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.ui.attachments import read


@dataclass(frozen=True, slots=True)
class Form:
    """A JSON schema's text, a grammar in GBNF, or neither.

    `logprobs`: how many likely tokens to tell beside each; `answers`: how many to give to one message.
    """

    json_schema: str | None = None
    grammar: str | None = None
    logprobs: int | None = None
    answers: int = 1


def read_form(json_schema: str | None, grammar: str | None, logprobs: int | None = None, answers: int = 1) -> Form:
    """The texts of these files. Raises RunnerError for files that cannot be read, or whose form cannot be kept to."""
    schema, gbnf = (read(path).text if path else None for path in (json_schema, grammar))
    form = Form(schema, gbnf, logprobs, answers)
    if json_schema or grammar:
        from nemotron_gguf.runner.grammar.wish import grammar_of

        try:
            grammar_of(form.grammar, form.json_schema)
        except RunnerError as error:
            raise RunnerError(f"{json_schema or grammar}: {error}") from error
    return form
