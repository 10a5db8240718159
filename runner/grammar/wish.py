"""What a person asks of an answer's form becomes a grammar, or one clear error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.check import finish
from nemotron_gguf.runner.grammar.effort import effort
from nemotron_gguf.runner.grammar.gbnf import read_gbnf
from nemotron_gguf.runner.grammar.graph import Builder, Grammar
from nemotron_gguf.runner.grammar.ranges import ANY, of_text
from nemotron_gguf.runner.grammar.schema.compiler import read_schema
from nemotron_gguf.runner.grammar.schema.keywords import Schema

MAX_SCHEMA = 1 << 20  # characters of a schema
MAX_STEPS = 300_000  # of compiling, about two seconds
MAX_DEPTH = 100  # lists and mappings in each other
MAX_SPACE = 4  # white space between a reasoning and its answer


def grammar_of(grammar: str | None, json_schema: Schema | str | None, opening: str | None = None) -> Grammar | None:
    """The grammar for one of both wishes; None where there is none. Raises GrammarError.

    `grammar` is GBNF with a rule `root`; `json_schema` a schema, or its text. `opening`: the answer is one of a chat,
    so that white space may come before it, and where the text is not empty, a reasoning that begins with it.
    """
    if grammar is not None and json_schema is not None:
        raise GrammarError("both a grammar and a JSON schema are given; give one of them")
    if json_schema is not None:
        return _compiled("", _schema_text(json_schema), opening)
    if grammar is None:
        return None
    if not isinstance(grammar, str):
        raise GrammarError(f"the grammar is of the type {type(grammar).__name__}, expected a text of GBNF")
    return _compiled(grammar, None, opening)


@lru_cache(maxsize=8)
def _compiled(grammar: str, schema: str | None, opening: str | None) -> Grammar:
    builder = Builder()
    try:
        with effort(MAX_STEPS, "it"):
            root = read_gbnf(grammar, builder) if schema is None else read_schema(json.loads(schema), builder)
        begun = root
        if opening is not None:
            gap = builder.repeat(builder.chars(of_text(" \n\r\t")), 0, MAX_SPACE)
            root = begun = builder.chain(gap, root)
        if opening:
            begun = builder.choice(root, builder.chain(builder.text(opening), builder.repeat(builder.chars(ANY))))
        return finish(builder, root, begun)
    except (GrammarError, RecursionError) as error:
        what = "the grammar" if schema is None else "the schema"
        if str(error).startswith((what, "line")):
            raise
        raise GrammarError(
            f"{what}: {'it is nested too deep' if isinstance(error, RecursionError) else error}"
        ) from None


def _schema_text(schema: Schema | str) -> str:
    """A schema's text, so that equal ones are one. Raises GrammarError for what is none."""
    if isinstance(schema, str):
        _check_size(schema)
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
            raise GrammarError(f"the schema is no JSON: {why}") from None
    if not isinstance(schema, Mapping | bool):
        raise GrammarError(f"the schema is of the type {type(schema).__name__}, expected a mapping, true or false")
    _Size().check(schema)
    try:
        text = json.dumps(schema, default=dict)
    except (TypeError, ValueError, RecursionError) as error:
        raise GrammarError(f"the schema is no JSON: {error}") from None
    _check_size(text)
    return text


def _check_size(text: str) -> None:
    if len(text) > MAX_SCHEMA:
        raise GrammarError(f"the schema has {len(text)} characters, at most {MAX_SCHEMA} are read; make it smaller")


class _Size:
    """Counts what a schema holds, before anything else is done with it."""

    def __init__(self) -> None:
        self.count = 0

    def check(self, value: Any, depth: int = 0) -> None:
        """Raises GrammarError where it is too much, or too deep."""
        self.count += 1
        if self.count > MAX_SCHEMA // 2 or depth > MAX_DEPTH:
            why = f"more than {MAX_DEPTH} deep" if depth > MAX_DEPTH else "too large"
            raise GrammarError(f"the schema is {why}; make it smaller")
        if isinstance(value, Mapping):
            for item in value.values():
                self.check(item, depth + 1)
        elif isinstance(value, list | tuple):
            for item in value:
                self.check(item, depth + 1)
