"""What a schema's grammar lets be written satisfies the schema, whoever writes it; what cannot be kept is refused."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest

from nemotron_gguf.runner import GrammarError
from nemotron_gguf.runner.grammar.stacks import reads
from nemotron_gguf.runner.grammar.wish import grammar_of
from nemotron_gguf.tests.runner.grammar.schemas import COUNT, LINKED, PERSON, Schema, all_schemas
from nemotron_gguf.tests.runner.grammar.texts import drawn_text, heights

SCHEMAS = all_schemas()


def check(schema: Schema, text: str) -> None:
    is_old = isinstance(schema, dict) and schema.get("exclusiveMinimum") is True
    kind = jsonschema.Draft4Validator if is_old else jsonschema.Draft202012Validator
    kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))


@pytest.mark.parametrize("number", range(COUNT))
def test_all_that_can_be_written_is_right(number: int) -> None:
    schema, draw = SCHEMAS[number], random.Random(number)
    grammar = grammar_of(None, schema)
    assert grammar
    shortest = heights(grammar)
    texts = {drawn_text(grammar, shortest, draw, draw.choice((0, 10, 60, 300))) for _ in range(12)}
    for text in texts:
        check(schema, text)
        assert reads(grammar.nodes, grammar.root, text.encode()), "the walk and the reader agree"


def reads_text(schema: Any, text: str) -> bool:
    grammar = grammar_of(None, schema)
    assert grammar
    return reads(grammar.nodes, grammar.root, text.encode())


RIGHT = [
    (PERSON, '{"name": "Ada", "age": 36}'),
    (PERSON, '{\n  "name": "Ada",\n  "age": 36,\n  "email": "ada@example.org",\n  "tags": ["a", "b"]\n}'),
    (LINKED, '{"value":1,"next":{"value":-2,"next":null}}'),
    ({"type": "number"}, "-12.5e-3"),
    ({"type": "number", "minimum": -1.5}, "-1.5"),
    ({"type": "number", "minimum": -1.5, "maximum": 3}, "2.999"),
    ({"type": "integer", "minimum": 9, "maximum": 1000}, "999"),
    ({"type": "string"}, '"\\u00e9\\n\\/ \\"quoted\\""'),
    ({"type": "string", "maxLength": 2}, '"\\u00e9\U0001f600"'),
    ({"type": "string", "pattern": "b+"}, '"abbc"'),
    ({"type": "string", "format": "date-time"}, '"2024-02-28T23:59:59.5+01:00"'),
    ({"type": "object"}, '{"any": [1, {"deep": null}]}'),
    (True, "[true, false]"),
    ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, '{"b": 1}'),
    ({"type": "object", "properties": {"a": {}, "b": {}}}, '{"b": {}}'),
    ({"type": "array", "items": {"type": "integer"}}, "[]"),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, '"x"'),
]
WRONG = [
    (PERSON, '{"age": 36, "name": "Ada"}'),
    (PERSON, '{"name": "Ada", "age": 131}'),
    (PERSON, '{"name": "Ada", "age": 36, "more": 1}'),
    ({"type": "number", "minimum": -1.5}, "-1.51"),
    ({"type": "number", "exclusiveMaximum": 3}, "3.0"),
    ({"type": "integer"}, "01"),
    ({"type": "integer"}, "1.5"),
    ({"type": "string", "maxLength": 2}, '"abc"'),
    ({"type": "string"}, '"\\ud83d"'),
    ({"type": "string"}, '"\n"'),
    ({"type": "string", "pattern": "^b+$"}, '"abbc"'),
    ({"type": "string", "format": "date"}, '"2024-02-30"'),
    ({"type": "object", "properties": {"ab": {"type": "null"}}, "additionalProperties": True}, '{"ab": 1}'),
    ({"type": "object", "properties": {"ab": {"type": "null"}}, "additionalProperties": True}, '{"\\u0061b": 1}'),
    ({"type": "object", "properties": {"a": {}}}, '{"b": 1}'),
    ({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}, "[1, 1]"),
    (True, "nul"),
]


@pytest.mark.parametrize(("schema", "text"), RIGHT)
def test_right_texts_can_be_written(schema: Any, text: str) -> None:
    check(schema, text)
    assert reads_text(schema, text)


@pytest.mark.parametrize(("schema", "text"), WRONG)
def test_wrong_texts_cannot(schema: Any, text: str) -> None:
    assert not reads_text(schema, text)


def test_bounds_are_kept_digit_by_digit() -> None:
    draw = random.Random(3)
    for _ in range(60):
        low = round(draw.uniform(-30, 30), draw.randrange(3))
        high = round(low + draw.choice((0.01, 1.5, 25)), 2)
        grammar = grammar_of(None, {"type": "number", "minimum": low, "exclusiveMaximum": high})
        assert grammar
        for _ in range(60):
            value = round(draw.uniform(low - 3, high + 3), draw.randrange(4)) + 0.0
            text = repr(abs(value) if value == 0 else value).removesuffix(".0")
            assert reads(grammar.nodes, grammar.root, text.encode()) == (low <= value < high), (low, value, high)


REFUSED = [
    ({"type": "object", "if": {}, "then": {}}, "at #: 'if' cannot be kept to"),
    ({"properties": {"a": {"not": {"type": "null"}}}}, "at #/properties/a: 'not' cannot be kept to"),
    ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"contains": {}}}}, "at #/$defs/b: 'contains'"),
    ({"type": "string", "pattern": "(?=a)"}, "at #/pattern: looking ahead"),
    ({"type": "string", "pattern": "(a)\\1"}, "at #/pattern: \\1 is not understood"),
    ({"type": "string", "pattern": "a{2"}, "at #/pattern: expected {n}"),
    ({"type": "string", "format": "regex"}, "at #/format: 'regex' cannot be kept to"),
    ({"enum": ["a"], "format": "regex"}, "at #/format: 'regex' cannot be kept to"),
    ({"properties": {"a": {"$id": "other", "$ref": "#/x"}}}, "at #/properties/a/$id: documents within"),
    ({"type": "number", "multipleOf": 0.01}, "at #/multipleOf: fractions"),
    ({"type": "integer", "multipleOf": 1000}, "at #/multipleOf: without bounds"),
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "at #/uniqueItems"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "at #/oneOf: its parts 0 and 1"),
    ({"oneOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {}}}]}, "at #/oneOf"),
    ({"type": "object", "minProperties": 3}, "at #/minProperties"),
    ({"patternProperties": {"a": {}, "b": {}}}, "at #/patternProperties"),
    ({"type": "text"}, "at #/type: expected one of object"),
    ({"required": "name"}, "at #/required: expected a list of names"),
    ({"minimum": "3"}, "at #/minimum: expected a number"),
    ({"minimum": float("nan")}, "at #/minimum: expected a number"),
    ({"maxLength": -1}, "at #/maxLength: expected a whole number"),
    ({"anyOf": []}, "at #/anyOf: expected a list of schemas"),
    ({"properties": {"a": 5}}, "at #/properties: expected schemas by name"),
    ({"$ref": "other.json#/a"}, "'other.json#/a' is not in this document"),
    ({"$ref": "#/$defs/none"}, "there is nothing at '#/$defs/none'"),
    ({"$ref": "#/$defs", "$defs": 3}, "there is no schema"),
    ({"enum": [[1], [2]], "maxItems": 1}, "at #/enum"),
    ({"enum": []}, "no text can satisfy it"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "no text can satisfy it"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "no text can satisfy it"),
    ({"type": "string", "pattern": "^a$", "minLength": 2}, "no text can satisfy it"),
    ({"enum": [float("inf")]}, "cannot be written"),
    (False, "no text can satisfy it"),
    (5, "expected a mapping"),
    ("{", "the schema is no JSON"),
    ('"text"', "expected a mapping"),
    ({"const": {1, 2}}, "the schema is no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "words"), REFUSED)
def test_what_cannot_be_kept_to_is_refused_by_its_path(schema: Any, words: str) -> None:
    with pytest.raises(GrammarError) as caught:
        grammar_of(None, schema)
    assert words in str(caught.value)
    assert str(caught.value).startswith("the schema")
    assert "\n" not in str(caught.value)


def test_what_only_says_something_changes_nothing() -> None:
    plain = {"type": "integer", "minimum": 1, "maximum": 3}
    said = plain | {"title": "T", "description": "D", "default": 2, "examples": [1], "x-more": {}, "$comment": "c"}
    assert grammar_of(None, said) == grammar_of(None, plain)
    assert grammar_of(None, json.dumps(plain)) == grammar_of(None, plain), "a text is as good as a mapping"


def test_one_form_at_a_time() -> None:
    assert grammar_of(None, None) is None
    with pytest.raises(GrammarError, match="both a grammar and a JSON schema"):
        grammar_of('root ::= "a"', {})
