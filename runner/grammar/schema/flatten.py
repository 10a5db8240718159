"""References and `allOf` are resolved: several schemas that must hold at once become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from nemotron_gguf.runner.grammar.effort import spend
from nemotron_gguf.runner.grammar.regex import matches
from nemotron_gguf.runner.grammar.schema.keywords import Flat, Schema, check_keywords, own_keywords, refuse, same

MAX_STEPS = 20_000


class Document:
    """A whole schema, whose parts may refer to each other, and how much has been done with it."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.steps = 0

    def step(self, path: str, count: int = 1) -> None:
        """Something has been done. Raises GrammarError where it is too much."""
        spend(count)
        self.steps += count
        if self.steps > MAX_STEPS:
            refuse(path, f"it takes more than {MAX_STEPS} steps to put its parts together; make it simpler")

    def resolve(self, pointer: str, path: str) -> Schema:
        """The part that a reference names. Raises GrammarError where there is none, or it is in another document."""
        if pointer != "#" and not pointer.startswith("#/"):
            refuse(f"{path}/$ref", f"{pointer[:80]!r} is not in this document; only '#' and '#/…' are followed")
        found: Any = self.schema
        for step in pointer.split("/")[1:]:
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and len(key) < 7 and int(key) < len(found):
                found = found[int(key)]
            else:
                refuse(f"{path}/$ref", f"there is nothing at {pointer[:80]!r}")
        if not isinstance(found, Mapping | bool):
            refuse(f"{path}/$ref", f"there is no schema at {pointer[:80]!r}")
        return found

    def flatten(self, schema: Schema, path: str, via: tuple[str, ...] = ()) -> Flat:
        """One schema in the form of `Flat`, with all that its references and `allOf` add.

        `via`: references on the way here. Raises GrammarError for keywords that are not kept to.
        """
        self.step(path)
        if isinstance(schema, bool):
            return {} if schema else {"enum": []}
        check_keywords(schema, path)
        flat = own_keywords(schema)
        if "$ref" in schema:
            pointer = schema["$ref"]
            if pointer in via:
                refuse(f"{path}/$ref", "it refers to itself with nothing in between")
            flat = merged(self.flatten(self.resolve(pointer, path), path, (*via, pointer)), flat)
        for at, part in enumerate(schema.get("allOf", ())):
            flat = merged(flat, self.flatten(part, f"{path}/allOf/{at}", via))
        return flat


def all_of(schemas: Sequence[Schema]) -> Schema:
    """A schema that asks for what all of them ask for."""
    wanted: list[Schema] = []
    for schema in schemas:
        if schema is False:
            return False
        if schema is not True and schema not in wanted:
            wanted.append(schema)
    return {"allOf": wanted} if len(wanted) > 1 else wanted[0] if wanted else True


def schemas_for(flat: Flat, name: str) -> list[Schema]:
    """What must hold of a property of that name."""
    found = [flat["properties"][name]] if name in flat.get("properties", ()) else []
    found += [schema for pattern, schema in flat.get("patternProperties", {}).items() if matches(pattern, name)]
    return found or ([flat["additionalProperties"]] if "additionalProperties" in flat else [])


def merged(one: Flat, other: Flat) -> Flat:
    """What both ask for."""
    if not one or not other:
        return dict(one or other)
    flat = dict(one)
    for key, value in other.items():
        flat[key] = _MERGE[key](flat[key], value) if key in flat and key in _MERGE else value
    if "properties" in flat or "additionalProperties" in flat or "patternProperties" in flat:
        flat.update(_merged_properties(one, other))
    if "items" in flat or "prefixItems" in flat:
        flat.update(_merged_items(one, other))
    return flat


def _merged_properties(one: Flat, other: Flat) -> Flat:
    flat: Flat = {}
    names = [*one.get("properties", ()), *other.get("properties", ())]
    if names:
        flat["properties"] = {
            name: all_of([*schemas_for(one, name), *schemas_for(other, name)]) for name in dict.fromkeys(names)
        }
    rest = [side["additionalProperties"] for side in (one, other) if "additionalProperties" in side]
    if rest:
        flat["additionalProperties"] = all_of(rest)
    patterns: dict[str, list[Schema]] = {}
    for side, beside in ((one, other), (other, one)):
        for pattern, schema in side.get("patternProperties", {}).items():
            patterns.setdefault(pattern, []).append(schema)
            if pattern not in beside.get("patternProperties", ()) and "additionalProperties" in beside:
                patterns[pattern].append(beside["additionalProperties"])
    if patterns:
        flat["patternProperties"] = {pattern: all_of(schemas) for pattern, schemas in patterns.items()}
    return flat


def _merged_items(one: Flat, other: Flat) -> Flat:
    flat: Flat = {}
    count = max(len(side.get("prefixItems", ())) for side in (one, other))
    if count:
        flat["prefixItems"] = [all_of([_item(side, at) for side in (one, other)]) for at in range(count)]
    rest = [side["items"] for side in (one, other) if "items" in side]
    if rest:
        flat["items"] = all_of(rest)
    return flat


def _item(flat: Flat, at: int) -> Schema:
    prefix: Sequence[Schema] = flat.get("prefixItems", ())
    rest: Schema = flat.get("items", True)
    return prefix[at] if at < len(prefix) else rest


def _common_types(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Types in both; an integer is a number as well."""
    wide = [set(types) | ({"integer"} if "number" in types else set()) for types in (one, other)]
    return [kind for kind in dict.fromkeys([*one, *other]) if kind in wide[0] and kind in wide[1]]


def _common_values(one: Sequence[object], other: Sequence[object]) -> list[object]:
    return [value for value in one if any(same(value, candidate) for candidate in other)]


def _union(one: Sequence[object], other: Sequence[object]) -> list[object]:
    return [*one, *(value for value in other if value not in one)]


_MERGE: Mapping[str, Callable[[Any, Any], Any]] = {
    "type": _common_types,
    "enum": _common_values,
    **dict.fromkeys(("required", "patterns", "formats", "multiples", "groups"), _union),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    "uniqueItems": lambda one, other: one or other,
}
