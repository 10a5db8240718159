"""The keywords of JSON Schema that are kept to, and those that only say something; others are refused by their path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from nemotron_gguf.runner.errors import GrammarError
from nemotron_gguf.runner.grammar.schema.formats import FORMATS

Schema: TypeAlias = Mapping[str, Any] | bool
Flat: TypeAlias = dict[str, Any]
"""A schema without references and `allOf`, its keywords in one form (see `flatten`)."""

NUMBER_FORMATS = ("int32", "int64", "float", "double")
"""OpenAPI's, about numbers; but for the first, all numbers that are written here have them."""

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
MAX_COUNT = 1_000_000  # of items, properties, characters

ANNOTATIONS = frozenset(
    (
        "title", "description", "default", "example", "examples", "$comment", "$schema", "$id", "$anchor", "deprecated",
        "readOnly", "writeOnly", "$defs", "definitions", "contentMediaType", "contentEncoding", "contentSchema",
        "discriminator", "externalDocs", "nullable", "id",
    )
)  # fmt: skip
"""What says something about a value and forbids none. OpenAPI's `nullable` would allow more; it need not be used."""

BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("patterns", "formats", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multiples"),
}
"""Which keywords, in the form of `Flat`, are about which type."""


def refuse(path: str, why: str) -> NoReturn:
    """Raise the error for a place in a schema."""
    shown = path if len(path) <= 160 else f"{path[:100]}…{path[-50:]}"
    raise GrammarError(f"the schema at {shown}: {why}")


def is_annotation(key: str) -> bool:
    """Whether a keyword forbids no value."""
    return key in ANNOTATIONS or key.startswith("x-")


def is_schema(value: object) -> bool:
    """Whether a value could be a schema."""
    return isinstance(value, Mapping | bool)


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return _is_number(value) and value == int(value) and 0 <= value <= MAX_COUNT  # type: ignore[call-overload, operator]  # it is a number


def _is_type(value: object) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(name in TYPES for name in names)


def _is_list_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_mapping_to_schemas(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(is_schema, value.values()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_NUMBER = (_is_number, "a number")
_COUNT = (_is_count, f"a whole number up to {MAX_COUNT}")
_SCHEMA = (is_schema, "a schema")
_SCHEMAS = (lambda value: value != [] and _is_list_of(is_schema)(value), "a list of schemas")
_NAMED = (_is_mapping_to_schemas, "schemas by name")
_TEXT = (_is_text, "a text")

CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, "one of " + ", ".join(TYPES) + ", or a list of them"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "const": (lambda _: True, "a value"),
    "$ref": _TEXT,
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "properties": _NAMED,
    "required": (_is_list_of(_is_text), "a list of names"),
    "additionalProperties": _SCHEMA,
    "patternProperties": _NAMED,
    "minProperties": _COUNT,
    "maxProperties": _COUNT,
    "items": (lambda value: is_schema(value) or _is_list_of(is_schema)(value), "a schema"),
    "prefixItems": (_is_list_of(is_schema), "a list of schemas"),
    "additionalItems": _SCHEMA,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": _TEXT,
    "format": _TEXT,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": (lambda value: isinstance(value, bool) or _is_number(value), "a number"),
    "exclusiveMaximum": (lambda value: isinstance(value, bool) or _is_number(value), "a number"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
}
"""What each keyword's value must be."""


def check_keywords(schema: Mapping[str, Any], path: str) -> None:
    """Raises GrammarError for a keyword that is not kept to, or whose value makes no sense."""
    if "$id" in schema and path != "#":
        refuse(f"{path}/$id", "documents within a document are not followed; leave it out")
    for key, value in schema.items():
        if is_annotation(key):
            continue
        if key not in CHECKS:
            refuse(path, f"{key!r} cannot be kept to; leave it out, or say it with other keywords")
        if key == "format" and value not in (*FORMATS, *NUMBER_FORMATS):
            known = ", ".join(FORMATS)
            refuse(
                f"{path}/format", f"{str(value)[:40]!r} cannot be kept to; known are {known}; or say it with a pattern"
            )
        is_right, words = CHECKS[key]
        if not is_right(value):
            refuse(f"{path}/{key}", f"expected {words}")


def own_keywords(schema: Mapping[str, Any]) -> Flat:
    """A schema's own keywords in one form, without `$ref` and `allOf`."""
    flat: Flat = {
        key: value
        for key, value in schema.items()
        if not is_annotation(key) and key not in ("$ref", "allOf", "const", "pattern", "format", "multipleOf")
    }
    for key, many in (("pattern", "patterns"), ("format", "formats"), ("multipleOf", "multiples")):
        if key in schema:
            flat[many] = [schema[key]]
    if schema.get("format") in NUMBER_FORMATS:
        del flat["formats"]
        if schema["format"] == "int32":
            flat["minimum"] = max(flat.get("minimum", -(1 << 31)), -(1 << 31))
            flat["maximum"] = min(flat.get("maximum", (1 << 31) - 1), (1 << 31) - 1)
    if "type" in flat:
        flat["type"] = [flat["type"]] if isinstance(flat["type"], str) else list(flat["type"])
    if "const" in schema:
        flat["enum"] = [one for one in flat.get("enum", [schema["const"]]) if same(one, schema["const"])]
    groups = [(kind, flat.pop(kind)) for kind in ("anyOf", "oneOf") if kind in flat]
    if groups:
        flat["groups"] = groups
    _old_drafts(flat)
    return flat


def _old_drafts(flat: Flat) -> None:
    """What was said in another way up to draft 7, or draft 4."""
    rest = flat.pop("additionalItems", None)
    if isinstance(flat.get("items"), list):
        flat["prefixItems"] = flat.pop("items")
        if rest is not None:
            flat["items"] = rest
    for limit in ("Minimum", "Maximum"):
        is_strict = flat.get(f"exclusive{limit}")
        if isinstance(is_strict, bool):
            del flat[f"exclusive{limit}"]
            if is_strict and limit.lower() in flat:
                flat[f"exclusive{limit}"] = flat.pop(limit.lower())


def same(one: object, other: object) -> bool:
    """Whether two values are the same to JSON, for which 1 is 1.0 and not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def types_of(flat: Flat) -> Sequence[str]:
    """The types of values to be written: those named, else those that the keywords are about, else all."""
    named = flat.get("type")
    if named is None:
        named = [kind for kind, keys in BY_TYPE.items() if any(key in flat for key in keys)] or TYPES
    return [kind for kind in dict.fromkeys(named) if not (kind == "integer" and "number" in named)]
