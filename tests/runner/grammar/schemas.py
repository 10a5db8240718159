"""Two hundred JSON schemas: some by hand, as people write them, and some drawn, which combine what nobody would."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

Schema = dict[str, Any] | bool

PERSON: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "Given and family name", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
LINKED: Schema = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
TREE: Schema = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}, "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}},
    "required": ["label"],
    "additionalProperties": False,
}
SHAPES: Schema = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["kind", "radius"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "square"}, "side": {"type": "number", "minimum": 0.5, "maximum": 9.25}},
            "required": ["kind", "side"],
        },
        {"type": "object", "properties": {"kind": {"enum": ["dot", "none"]}}, "required": ["kind"]},
    ]
}
CALCULATION: Schema = {
    "$defs": {
        "term": {
            "anyOf": [
                {"type": "number", "minimum": -100, "maximum": 100},
                {
                    "type": "object",
                    "properties": {
                        "op": {"enum": ["+", "-", "*", "/"]},
                        "args": {"type": "array", "items": {"$ref": "#/$defs/term"}, "minItems": 2, "maxItems": 2},
                    },
                    "required": ["op", "args"],
                    "additionalProperties": False,
                },
            ]
        }
    },
    "type": "object",
    "properties": {"result": {"$ref": "#/$defs/term"}},
    "required": ["result"],
}

OBJECTS: list[Schema] = [
    {"type": "object"},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "object", "properties": {"a": True}, "required": ["a"]},
    {"type": "object", "properties": {"a": False, "b": {"type": "null"}}},
    {"properties": {"a": {"type": "boolean"}}, "required": ["a", "b"]},
    {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9}},
    {"type": "object", "properties": {"id": {"type": "string"}}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 2},
    {"type": "object", "properties": {c: {"type": "null"} for c in "abcd"}, "minProperties": 2, "maxProperties": 3},
    {"type": "object", "properties": {c: {"type": "null"} for c in "abc"}, "required": ["b"], "maxProperties": 2},
    {"properties": {'qu"ote\\': {"const": 1}, "ключ": {"const": 2}, "": {"const": 3}}, "required": [""]},
    {"type": "object", "patternProperties": {"^x-[a-z]{1,3}$": {"type": "integer"}}, "additionalProperties": False},
    {
        "type": "object",
        "properties": {"x-a": {"minimum": 5}, "y": {"type": "string"}},
        "patternProperties": {"^x-": {"type": "integer"}},
    },
    {"type": "object", "properties": {"a": {"type": "integer"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "object", "properties": {
        "c": {"type": "array", "items": {"type": "object", "properties": {"d": {"enum": [1, 2]}}}}}}}}}},
]  # fmt: skip

ARRAYS: list[Schema] = [
    {"type": "array"},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    {
        "type": "array",
        "items": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 2, "maxItems": 2},
        "maxItems": 2,
    },
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False, "minItems": 1},
    {"type": "array", "prefixItems": [{"const": "x"}], "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1},
    {"type": "array", "prefixItems": [{"type": "null"}], "minItems": 3},
    {"type": "array", "items": {"enum": ["a", "b", "c", 1, 1.0]}, "uniqueItems": True, "minItems": 2},
    {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 1},
    {"allOf": [{"type": "array", "items": {"type": "number"}}, {"items": {"minimum": 3}, "minItems": 1}]},
]

TEXTS: list[Schema] = [
    {"type": "string"},
    {"type": "string", "minLength": 3, "maxLength": 3},
    {"type": "string", "maxLength": 0},
    {"type": "string", "minLength": 40},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{4}$"},
    {"type": "string", "pattern": "^(red|green|blue)$"},
    {"type": "string", "pattern": "[0-9]+"},
    {"type": "string", "pattern": "^a"},
    {"type": "string", "pattern": "z$", "maxLength": 5},
    {"type": "string", "pattern": "^(ab)*$", "minLength": 3, "maxLength": 9},
    {"type": "string", "pattern": "^[^\"\\\\]*\"[^\"]*$", "maxLength": 8},
    {"type": "string", "pattern": "^\\s\\S\\w\\W\\d\\D.$"},
    {"type": "string", "pattern": "^\\n\\t\\x41\\u4f60$"},
    {"type": "string", "pattern": "^(?:[a-f]|[0-3]{2}){3,5}$"},
    {"type": "string", "pattern": "^a.{0,3}b$|^c$"},
    {"allOf": [{"pattern": "^a"}, {"pattern": "b$"}, {"type": "string", "minLength": 4, "maxLength": 6}]},
    {"type": "string", "pattern": "^(a+)+$", "maxLength": 30},
    {"type": "string", "pattern": "^(\\w+\\s?)*$", "maxLength": 20},
    *({"type": "string", "format": name} for name in (
        "date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "hostname", "email", "uri", "json-pointer")),
    {"type": "string", "format": "date", "pattern": "^20"},
    {"type": "string", "format": "uri", "minLength": 1, "maxLength": 30},
    {"enum": ["", "a", "ab", "abc", "b", "\u4f60\u597d", "\"\\/\b\n", "\U0001f600"]},
    {"type": "string", "enum": ["short", "much longer", 5], "maxLength": 6},
]  # fmt: skip

NUMBERS: list[Schema] = [
    {"type": "integer"},
    {"type": "number"},
    {"type": "integer", "minimum": 10},
    {"type": "integer", "maximum": -10},
    {"type": "integer", "minimum": -12, "maximum": 345},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
    {"type": "integer", "minimum": 1.5, "maximum": 2.5},
    {"type": "integer", "multipleOf": 1},
    {"type": "integer", "format": "int32", "minimum": 2000000000},
    {"type": "integer", "multipleOf": 7},
    {"type": "integer", "multipleOf": 12, "minimum": -50, "maximum": 50},
    {"type": "integer", "minimum": 99999999999999999999},
    {"type": "number", "minimum": 0.1, "maximum": 0.1},
    {"type": "number", "minimum": -0.35, "maximum": 12.125},
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "number", "exclusiveMaximum": 0},
    {"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 3},
    {"type": "number", "exclusiveMinimum": 0.999, "exclusiveMaximum": 1.001},
    {"type": "number", "minimum": 1e-5, "maximum": 1e-3},
    {"type": "number", "minimum": -1e12, "maximum": -3.25},
    {"type": "number", "minimum": 5, "exclusiveMinimum": True},
    {"minimum": 5},
    {"enum": [1, 2.5, -3, 1e3], "minimum": 0},
]

OTHERS: list[Schema] = [
    True,
    {},
    {"type": "null"},
    {"type": "boolean"},
    {"type": ["string", "null"], "maxLength": 3},
    {"type": ["integer", "boolean", "array"], "maximum": 3, "maxItems": 1},
    {"const": {"a": [1, None, {"b": "\u00e9"}]}},
    {"const": False},
    {"enum": [None, True, 1, "1", [1], {"one": 1}]},
    {"type": "integer", "enum": [1, 2, "three", None]},
    {"const": 3, "enum": [1, 2, 3, 4]},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer", "minimum": 7}]},
    {"anyOf": [{"type": "string"}, False]},
    {"anyOf": [{"const": 1}, {"const": 2}], "enum": [2, 3]},
    {"oneOf": [{"type": "string"}, {"type": "array", "maxItems": 1}, {"type": "null"}]},
    {"oneOf": [{"type": "number", "maximum": 1}, {"type": "number", "minimum": 2}]},
    {"type": "object",
     "oneOf": [{"required": [key], "properties": {key: {"type": "null"}}, "additionalProperties": False}
               for key in "ab"]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
               {"properties": {"b": {"type": "string"}, "a": {"minimum": 3}}, "required": ["b"]}]},
    {"allOf": [{"type": ["integer", "string"]}, {"type": ["number", "null"]}]},
    {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]},
               {"anyOf": [{"type": "integer"}, {"type": "null"}]}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
               {"type": "object", "properties": {"a": True, "b": {"maxLength": 2}}, "required": ["b"]}]},
    {"$defs": {"s": {"type": "string", "maxLength": 2}}, "type": "object",
     "properties": {"a": {"$ref": "#/$defs/s"}, "b": {"$ref": "#/$defs/s", "minLength": 1}}, "required": ["a", "b"]},
    {"definitions": {"a/b": {"type": "integer"}, "c d": {"$ref": "#/definitions/a~1b"}},
     "type": "array", "items": {"$ref": "#/definitions/c%20d"}, "minItems": 1, "maxItems": 2},
    {"$defs": {"a": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/b"}, "maxItems": 2}, {"type": "null"}]},
               "b": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "additionalProperties": False}},
     "$ref": "#/$defs/b"},
    {"$ref": "#/$defs/e",
     "$defs": {"e": {"type": "object", "properties": {"c": {"allOf": [{"$ref": "#/$defs/e"}, {"maxProperties": 1}]}}}}},
    PERSON, LINKED, TREE, SHAPES, CALCULATION,
]  # fmt: skip


class _Drawing:
    """Draws schemas; each can be satisfied by a short text."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.defs: dict[str, Schema] = {}

    def document(self) -> Schema:
        """A schema with some parts of it named."""
        for name in "pq"[: self.random.randrange(3)]:
            self.defs[name] = self.schema(1)
        drawn = self.schema(3)
        return {**drawn, "$defs": self.defs} if isinstance(drawn, dict) else drawn

    def schema(self, depth: int) -> Schema:
        """A schema so many levels deep at most."""
        simple: list[Callable[[], Schema]] = [self.text, self.number, self.integer, self.listed]
        nested: list[Callable[[], Schema]] = [
            lambda: self.record(depth - 1),
            lambda: self.array(depth - 1),
            lambda: {"anyOf": [self.schema(depth - 1) for _ in range(self.random.randrange(1, 4))]},
            lambda: {"allOf": [self.record(depth - 1), self.record(0, "uvw")]},
            lambda: {"$ref": "#/$defs/" + self.random.choice(sorted(self.defs))} if self.defs else True,
        ]
        return self.random.choice(nested * 2 + simple if depth else simple)()

    def text(self) -> Schema:
        """A text by length or pattern."""
        low = self.random.randrange(4)
        patterns = ("^[a-z]+$", "\\d", "^(x|yz)*$", "^.?\\w", "^[^a]*$")
        schema: dict[str, Any] = {"type": "string", "maxLength": low + 2 + self.random.randrange(6)}
        return schema | self.random.choice([{"minLength": low}, {"pattern": self.random.choice(patterns)}])

    def number(self) -> Schema:
        """A number between bounds."""
        low = round(self.random.uniform(-50, 50), self.random.randrange(4))
        high = round(low + self.random.uniform(0.5, 30), 3)
        return {"type": "number", self.random.choice(["minimum", "exclusiveMinimum"]): low, "maximum": high}

    def integer(self) -> Schema:
        """A whole number between bounds, or by one."""
        low = self.random.randrange(-2000, 2000)
        return {"type": "integer", "minimum": low} | ({"maximum": low + 999} if self.random.random() < 0.7 else {})

    def listed(self) -> Schema:
        """Some values."""
        values = ["red", "green", "blue", 1, 2.5, None, True, [1], {"a": "b"}]
        return {"enum": self.random.sample(values, self.random.randrange(1, 5))}

    def array(self, depth: int) -> Schema:
        """An array by length."""
        low = self.random.randrange(2)
        return {
            "type": "array",
            "items": self.schema(depth),
            "minItems": low,
            "maxItems": low + self.random.randrange(3),
        }

    def record(self, depth: int, known: Sequence[str] = ("id", "name", "na", "value", "x y", "é")) -> Schema:
        """An object, some of whose properties are required."""
        names = self.random.sample(known, self.random.randrange(1, 4))
        schema: dict[str, Any] = {"type": "object", "properties": {name: self.integer() for name in names}}
        schema["properties"][names[0]] = self.schema(depth) if depth else self.text()
        schema["required"] = self.random.sample(names, self.random.randrange(len(names) + 1))
        return schema


BY_HAND: list[Schema] = [*OBJECTS, *ARRAYS, *TEXTS, *NUMBERS, *OTHERS]
COUNT = 210
"""Schemas of which some text is right."""


def all_schemas() -> list[Schema]:
    """Those by hand, then drawn ones that somebody can satisfy."""
    return [*BY_HAND, *(_Drawing(seed).document() for seed in range(COUNT - len(BY_HAND)))]
