"""Values of tool calls: from the text between two tags to what the tool's JSON schema asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Schemas: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Per tool, the schema of each of its parameters."""

_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
"""Nemotron 3's template writes what is neither text, list nor mapping by Jinja's `string`: True, False, None."""


def schemas_of(tools: Sequence[Mapping[str, Any]]) -> Schemas:
    """The schemas of tools in the form of OpenAI's API, or of their `function` alone."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools:
        function = tool.get("function", tool)
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            found[name] = properties if isinstance(properties, Mapping) else {}
    return found


def typed(text: str, schema: object) -> Any:
    """A value as its schema asks for it; the text itself where that is a text, is not said, or does not fit."""
    wanted = frozenset(_types(schema)) if isinstance(schema, Mapping) else frozenset()
    if not wanted - {"string"}:
        return text
    value = _read(text)
    if value is _UNREAD:
        return text
    if "integer" in wanted and isinstance(value, float) and value.is_integer():
        return int(value) if "number" not in wanted else value
    return value if _type_of(value) & wanted else text


_UNREAD = object()


def _read(text: str) -> Any:
    word = text.strip()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return json.loads(word, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _UNREAD


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _type_of(value: object) -> set[str]:
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number"}
    if isinstance(value, list):
        return {"array"}
    return {"object"} if isinstance(value, dict) else {"string"}


def _types(schema: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """The types that a schema allows. A reference names a schema that is not here: its value stays text."""
    kind = schema.get("type")
    if isinstance(kind, str):
        yield kind
    elif isinstance(kind, list):
        yield from (item for item in kind if isinstance(item, str))
    if schema.get("nullable") is True:
        yield "null"
    for choice in ("anyOf", "oneOf", "allOf"):
        options = schema.get(choice)
        if isinstance(options, list) and depth < 8:
            for option in options:
                if isinstance(option, Mapping):
                    yield from _types(option, depth + 1)
    if kind is None:
        choices = [schema["const"]] if "const" in schema else schema.get("enum")
        for value in choices if isinstance(choices, list) else ():
            yield from _type_of(value)
