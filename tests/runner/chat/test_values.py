"""Values of calls, typed by the tool's schema."""

from __future__ import annotations

from typing import Any

import pytest

from nemotron_gguf.runner.chat.values import schemas_of, typed


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("3", {"type": "integer"}, 3),
        ("3.0", {"type": "integer"}, 3),
        ("3.5", {"type": "integer"}, "3.5"),
        ("3.0", {"type": "number"}, 3.0),
        ("3", {"type": "number"}, 3),
        ("1e3", {"type": "number"}, 1000.0),
        ("NaN", {"type": "number"}, "NaN"),
        ("three", {"type": "number"}, "three"),
        ("true", {"type": "boolean"}, True),
        ("True", {"type": "boolean"}, True),
        ("maybe", {"type": "boolean"}, "maybe"),
        ("1", {"type": "boolean"}, "1"),
        ("true", {"type": "integer"}, "true"),
        ("None", {"type": "null"}, None),
        ('["a", "b"]', {"type": "array"}, ["a", "b"]),
        ('{"a": {"b": [1]}}', {"type": "object"}, {"a": {"b": [1]}}),
        ('{"a"', {"type": "object"}, '{"a"'),
        ("[1]", {"type": "object"}, "[1]"),
        ("[" * 100_000, {"type": "array"}, "[" * 100_000),
        ("42", {"type": "string"}, "42"),
        ('{"a": 1}', {"type": "string"}, '{"a": 1}'),
        ("null", {"type": "string"}, "null"),
        ("12\nlines", {"type": "string"}, "12\nlines"),
        ("null", {"type": ["string", "null"]}, None),
        ("nil", {"type": ["string", "null"]}, "nil"),
        ("42", {"type": ["integer", "string"]}, 42),
        ("42", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 42),
        ("null", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None),
        ("[1]", {"oneOf": [{"type": "string"}, {"type": "array"}]}, [1]),
        ("5", {"type": "integer", "nullable": True}, 5),
        ("null", {"type": "integer", "nullable": True}, None),
        ("2", {"enum": [1, 2]}, 2),
        ("2", {"enum": ["1", "2"]}, "2"),
        ("7", {"const": 7}, 7),
        ("5", {"$ref": "#/$defs/count"}, "5"),
        ("5", {}, "5"),
        ("5", None, "5"),
        ("5", True, "5"),
        ("5", {"type": 3}, "5"),
    ],
)
def test_a_value_is_what_its_schema_says(text: str, schema: Any, value: Any) -> None:
    found = typed(text, schema)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("tool", [{}, {"function": 3}, {"function": {"name": 1}}, {"name": "a", "parameters": "x"}])
def test_tools_of_no_form_have_no_schemas(tool: dict[str, Any]) -> None:
    assert not any(schemas_of([tool]).values())
