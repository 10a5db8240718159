"""Single values: which of an enum's satisfy the rest of their schema, and whether two schemas can share one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from nemotron_gguf.runner.grammar.regex import matches
from nemotron_gguf.runner.grammar.schema.flatten import schemas_for
from nemotron_gguf.runner.grammar.schema.formats import FORMATS
from nemotron_gguf.runner.grammar.schema.keywords import BY_TYPE, TYPES, Flat, Schema, same

Flatten = Callable[[Schema], Flat]


def type_of(value: object) -> str:
    """A value's type; of whole numbers `integer`."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) or value.is_integer() else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def admits(flat: Flat, value: Any, flatten: Flatten) -> bool | None:
    """Whether a schema holds of a value; None where that is not looked into."""
    kind = type_of(value)
    allowed = flat.get("type", TYPES)
    if kind not in allowed and not (kind == "integer" and "number" in allowed):
        return False
    if "enum" in flat and not any(same(value, other) for other in flat["enum"]):
        return False
    if "groups" in flat:
        return None
    if kind in ("integer", "number"):
        return _admits_number(flat, value)
    if kind == "string":
        return _admits_text(flat, value)
    if kind == "object":
        return _admits_object(flat, value, flatten)
    return None if kind == "array" and any(key in flat for key in BY_TYPE["array"]) else True


def _admits_number(flat: Flat, value: float) -> bool | None:
    exact = Decimal(str(value))

    def bound(key: str) -> Decimal:
        return Decimal(str(flat[key]))

    return (
        ("minimum" not in flat or exact >= bound("minimum"))
        and ("maximum" not in flat or exact <= bound("maximum"))
        and ("exclusiveMinimum" not in flat or exact > bound("exclusiveMinimum"))
        and ("exclusiveMaximum" not in flat or exact < bound("exclusiveMaximum"))
        and all(exact % Decimal(str(step)) == 0 for step in flat.get("multiples", ()))
    )


def _admits_text(flat: Flat, value: str) -> bool | None:
    patterns = [
        *flat.get("patterns", ()),
        *(f"^(?:{FORMATS[name]})$" for name in flat.get("formats", ())),
    ]
    return (
        flat.get("minLength", 0) <= len(value)
        and ("maxLength" not in flat or len(value) <= flat["maxLength"])
        and all(matches(pattern, value) for pattern in patterns)
    )


def _admits_object(flat: Flat, value: Mapping[str, Any], flatten: Flatten) -> bool | None:
    if not set(flat.get("required", ())) <= set(value):
        return False
    if not flat.get("minProperties", 0) <= len(value) <= flat.get("maxProperties", len(value)):
        return False
    found = [admits(flatten(schema), value[name], flatten) for name in value for schema in schemas_for(flat, name)]
    return False if False in found else None if None in found else True


def are_apart(one: Flat, other: Flat, flatten: Flatten) -> bool:
    """Whether it is certain that no value satisfies both."""
    for listed, beside in ((one, other), (other, one)):
        if "enum" in listed:
            return all(admits(beside, value, flatten) is False for value in listed["enum"])
    return all(_apart_as(kind, one, other, flatten) for kind in _shared(one, other))


def _shared(one: Flat, other: Flat) -> set[str]:
    """Types that both allow, whole numbers among the numbers."""
    both = [{"number" if kind == "integer" else kind for kind in flat.get("type", TYPES)} for flat in (one, other)]
    return both[0] & both[1]


def _apart_as(kind: str, one: Flat, other: Flat, flatten: Flatten) -> bool:
    limits = {
        "number": ("minimum", "maximum"),
        "string": ("minLength", "maxLength"),
        "array": ("minItems", "maxItems"),
        "object": ("minProperties", "maxProperties"),
    }
    if kind not in limits:
        return False
    low, high = limits[kind]
    if any(low in a and high in b and a[low] > b[high] for a, b in ((one, other), (other, one))):
        return True
    return kind == "object" and _objects_apart(one, other, flatten)


def _objects_apart(one: Flat, other: Flat, flatten: Flatten) -> bool:
    """By a property that one asks for and the other forbids, or of which they ask for different values."""
    required = [set(flat.get("required", ())) for flat in (one, other)]
    for flat, names in ((one, required[1]), (other, required[0])):
        if any(schemas_for(flat, name) == [False] for name in names):
            return True
    for name in sorted(required[0] & required[1]):
        for a in schemas_for(one, name):
            for b in schemas_for(other, name):
                if are_apart(flatten(a), flatten(b), flatten):
                    return True
    return False
