"""A schema becomes a graph, part after part; parts that refer to each other become cycles of it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.schema.arrays import arrays
from nemotron_gguf.runner.grammar.schema.flatten import Document, merged
from nemotron_gguf.runner.grammar.schema.keywords import (
    Flat,
    Schema,
    check_keywords,
    is_annotation,
    refuse,
    types_of,
)
from nemotron_gguf.runner.grammar.schema.numbers import any_numbers, integers
from nemotron_gguf.runner.grammar.schema.objects import objects
from nemotron_gguf.runner.grammar.schema.strings import strings
from nemotron_gguf.runner.grammar.schema.text import literal
from nemotron_gguf.runner.grammar.schema.values import admits, are_apart

MAX_DEPTH = 40  # schemas in schemas, without references


def read_schema(schema: Schema, builder: Builder) -> int:
    """The node of the JSON texts of a schema that are written here. Raises GrammarError, with the path in it."""
    return _Compiler(Document(schema), builder).read()


class _Compiler:
    """What has been compiled so far, by reference and by content."""

    def __init__(self, document: Document, builder: Builder) -> None:
        self.document, self.builder = document, builder
        self.depth = 0
        self._references: dict[str, int] = {}
        self._waiting: deque[str] = deque()
        self._known: dict[str, int] = {}

    def read(self) -> int:
        """The whole document, and all that it refers to."""
        root = self._reference("#", "#")
        while self._waiting:
            pointer = self._waiting.popleft()
            target = self.document.resolve(pointer, pointer)
            self.builder.define(self._references[pointer], self.compiled(target, pointer))
        return root

    def _reference(self, pointer: str, path: str) -> int:
        """The node of what a reference names, which is compiled later."""
        if pointer not in self._references:
            self.document.resolve(pointer, path)
            self._references[pointer] = self.builder.later()
            self._waiting.append(pointer)
        return self._references[pointer]

    @contextmanager
    def _deeper(self, path: str) -> Iterator[None]:
        if self.depth == MAX_DEPTH:
            refuse(path, f"schemas stand in schemas more than {MAX_DEPTH} deep; give some of them names in $defs")
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def compiled(self, schema: Schema, path: str) -> int:
        """The node of a schema."""
        with self._deeper(path):
            self.document.step(path)
            keys = [key for key in schema if not is_annotation(key)] if isinstance(schema, Mapping) else []
            if isinstance(schema, Mapping):
                check_keywords(schema, path)
                if keys == ["$ref"]:
                    return self._reference(schema["$ref"], path)
                if keys == ["allOf"] and len(schema["allOf"]) == 1:
                    return self.compiled(schema["allOf"][0], f"{path}/allOf/0")
            flat = self.document.flatten(schema, path)
            comes_back = not flat or "$ref" in keys or "allOf" in keys  # of any value the parts are any values
            return self._once(flat, path) if comes_back else self._flat(flat, path)

    def _once(self, flat: Flat, path: str) -> int:
        """What was put together of several schemas may come back again and again: it is known by what it says."""
        key = json.dumps(flat)
        self.document.step(path, len(key) // 200)
        if key not in self._known:
            self._known[key] = self.builder.later()
            with self._deeper(path):
                self.builder.define(self._known[key], self._flat(flat, path))
        return self._known[key]

    def _flat(self, flat: Flat, path: str) -> int:
        if "groups" in flat:
            return self._branches(flat, path)
        if "enum" in flat:
            return self._listed(flat, path)
        return self.builder.choice(*(self._typed(kind, flat, path) for kind in types_of(flat)))

    def _branches(self, flat: Flat, path: str) -> int:
        """One of `anyOf`, or of `oneOf` where it is certain that no value satisfies two."""
        (kind, schemas), *others = flat["groups"]
        rest = {key: value for key, value in flat.items() if key != "groups"} | ({"groups": others} if others else {})
        branches = [
            merged(rest, self.document.flatten(schema, f"{path}/{kind}/{at}")) for at, schema in enumerate(schemas)
        ]
        if kind == "oneOf":
            self._check_apart(branches, path)
        return self.builder.choice(*(self._once(branch, f"{path}/{kind}/{at}") for at, branch in enumerate(branches)))

    def _check_apart(self, branches: list[Flat], path: str) -> None:
        for at, one in enumerate(branches):
            for beside in range(at + 1, len(branches)):
                self.document.step(path)
                if not are_apart(one, branches[beside], lambda schema: self.document.flatten(schema, path)):
                    refuse(
                        f"{path}/oneOf",
                        f"its parts {at} and {beside} may hold of one value, and exactly one cannot be promised;"
                        " use anyOf, or give each a required property with a const of its own",
                    )

    def _listed(self, flat: Flat, path: str) -> int:
        """Those values of an enum that satisfy all else that is said."""
        rest = {key: value for key, value in flat.items() if key != "enum"}
        texts = []
        for value in flat["enum"]:
            is_right = admits(rest, value, lambda schema: self.document.flatten(schema, path))
            if is_right is None:
                refuse(f"{path}/enum", "it stands beside keywords about arrays or other choices; leave these out")
            if is_right:
                texts.append(literal(value))
        return self.builder.literals(texts) if texts else self.builder.never

    def _typed(self, kind: str, flat: Flat, path: str) -> int:
        builder = self.builder
        match kind:
            case "object":
                return objects(builder, flat, path, self.compiled)
            case "array":
                return arrays(builder, flat, path, self.compiled, self._item_values(flat, path))
            case "string":
                return strings(builder, flat, path)
            case "number":
                return any_numbers(builder, flat, path)
            case "integer":
                return integers(builder, flat, path)
            case "boolean":
                return builder.literals(("true", "false"))
            case _:
                return builder.text("null")

    def _item_values(self, flat: Flat, path: str) -> list[object] | None:
        """The values of an array's items, where they are listed and that matters."""
        if not flat.get("uniqueItems") or "items" not in flat:
            return None
        items = self.document.flatten(flat["items"], f"{path}/items")
        if not items.keys() <= {"enum", "type"} or "enum" not in items:
            return [False, True] if items == {"type": ["boolean"]} else None
        return [
            value for value in items["enum"] if admits(items, value, lambda schema: self.document.flatten(schema, path))
        ]
