"""Schemas and grammars that mean harm cost a bounded amount of work and end in one clear line."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from nemotron_gguf.runner import GrammarError
from nemotron_gguf.runner.grammar.effort import effort
from nemotron_gguf.runner.grammar.stacks import Stacks, reads
from nemotron_gguf.runner.grammar.wish import grammar_of

SECONDS = 60  # of the processor: on any machine far beyond what the bounds on work allow


def nested(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = {"type": "object", "properties": {"a": inside}}
    return inside


def chain(count: int, link: Any) -> Any:
    """Definitions each of which mentions the next."""
    defs = {f"d{at}": link({"$ref": f"#/$defs/d{at + 1}"}) for at in range(count)}
    return {"$defs": {**defs, f"d{count}": {"type": "integer", "maximum": 3}}, "$ref": "#/$defs/d0"}


def refers(*names: str) -> Any:
    """Definitions each of which is but a reference to the next, the last one to the first."""
    following = [*names[1:], names[0]]
    defs = {name: {"$ref": f"#/$defs/{other}"} for name, other in zip(names, following, strict=True)}
    return {"$defs": defs, "$ref": f"#/$defs/{names[0]}"}


hard = {"type": "string", "maxLength": 3000}

HOSTILE: dict[str, Any] = {
    "deep": nested(90, {}),
    "deeper": nested(900, {}),
    "deep text": '{"items":' * 100_000 + "{}" + "}" * 100_000,
    "deep arrays": "[" * 1_000_000,
    "ten megabytes": json.dumps({"description": "x" * 10_000_000}),
    "ten megabytes in a mapping": {"enum": ["x" * 10_000_000]},
    "exponential allOf": chain(40, lambda ref: {"allOf": [ref, ref, {"title": "t"}]}),
    "exponential product": {"type": "object", "allOf": [
        {"anyOf": [{"required": [f"a{n}"]}, {"required": [f"b{n}"]}]} for n in range(20)]},
    "a cycle of references": refers("a", "b", "c"),
    "itself": {"$ref": "#"},
    "all of itself": {"allOf": [{"$ref": "#"}, {"type": "object"}]},
    "itself as a required part": {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
    "itself as every item": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "a growing reference": {"$ref": "#/$defs/a", "$defs": {"a": {
        "properties": {"b": {"allOf": [{"$ref": "#/$defs/a"}, {"required": ["b"]}]}}, "required": ["b"]}}},
    "a huge enum": {"enum": [f"{at:07}{at * at}" for at in range(60_000)]},
    "many properties": {"properties": {f"p{at}": {} for at in range(40_000)}, "maxProperties": 30_000},
    "many branches": {"oneOf": [{"type": "object", "properties": {"k": {"const": at}}, "required": ["k"]}
                                for at in range(2_000)]},
    "nested repetitions": hard | {"pattern": "^((((a{0,99}b){0,99}c){0,99}d){0,99}e){0,99}$"},
    "a pattern with memory": hard | {"pattern": "(.*a.{12})+b"},
    "a long pattern": {"type": "string", "pattern": "a" * 5_000},
    "a deep pattern": {"type": "string", "pattern": "(" * 2_000 + "a" + ")" * 2_000},
    "many long patterns": {"allOf": [hard | {"pattern": f"(a|b){{{at}}}.*c"} for at in range(1, 60)]},
    "evil names": {"type": "object", "properties": {"a" * 20_000 + "b" + str(at): {} for at in range(20)},
                   "patternProperties": {"^((a|a)*)*$": {"type": "null"}}},
    "long digits": {"type": "number", "minimum": 1e300},
    "longer digits": '{"minimum": ' + "9" * 6_000 + "}",
    "tiny digits": {"type": "number", "exclusiveMinimum": 1e-300},
    "a huge count": {"type": "array", "minItems": 10**12},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused(name: str) -> None:
    begun = time.thread_time()
    with pytest.raises(GrammarError) as caught:
        grammar_of(None, HOSTILE[name])
    assert time.thread_time() - begun < SECONDS
    message = str(caught.value)
    assert message.startswith("the schema")
    assert "\n" not in message
    assert len(message) < 400


LARGE: dict[str, Any] = {
    "references to the same": chain(300, lambda ref: {"type": "object", "properties": {"a": ref, "b": ref}}),
    "many items": {"type": "array", "items": {"enum": [1]}, "minItems": 1_000_000},
    "catastrophic backtracking": {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"},
    "itself as an item": {"type": "array", "items": {"$ref": "#"}},
    "many properties": {"type": "object", "properties": {f"property {at}": {"type": "null"} for at in range(2_000)}},
    "a long enum": {"enum": [f"value {at}" for at in range(5_000)]},
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_one_is_not(name: str) -> None:
    begun = time.thread_time()
    grammar = grammar_of(None, LARGE[name])
    assert grammar
    assert len(grammar.nodes) < 100_000
    with effort(500_000, "it"):
        Stacks(grammar.nodes).begin(grammar.root)
    assert time.thread_time() - begun < SECONDS


def test_patterns_take_no_exponential_time() -> None:
    grammar = grammar_of(None, {"type": "string", "pattern": "^(a+)+$"})
    assert grammar
    begun = time.thread_time()
    assert reads(grammar.nodes, grammar.root, b'"' + b"a" * 3_000 + b'"')
    assert not reads(grammar.nodes, grammar.root, b'"' + b"a" * 3_000 + b'b"')
    assert time.thread_time() - begun < SECONDS


AMBIGUOUS = {
    "stacks that never meet": 'root ::= "[" root "]" | "[" root "]" "x" | "[" root "]" "y" | "q"',
    "counts of nothing": 'root ::= (("a" | "")  | "b"?){0,90000} "c"',
    "many counts": "root ::= (.{0,900} .{0,900} .{0,900}){0,900}",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_reading_an_ambiguous_grammar_costs_a_bounded_amount(name: str) -> None:
    grammar = grammar_of(AMBIGUOUS[name], None)
    assert grammar
    begun = time.thread_time()
    with pytest.raises(GrammarError, match=r"ways to read|too much work"), effort(500_000, "reading"):
        reads(grammar.nodes, grammar.root, b"[" * 5_000)
        reads(grammar.nodes, grammar.root, b"a" * 5_000)
    assert time.thread_time() - begun < SECONDS


def test_harmless_ways_to_say_the_same_are_one() -> None:
    grammar = grammar_of('root ::= ("a" | "a" | "a")* ("a"* "a"*)* ("a"?){0,50} ws ws ws ws "b"\nws ::= " "*', None)
    assert grammar
    with effort(500_000, "reading"):
        assert reads(grammar.nodes, grammar.root, b"a" * 200 + b" " * 200 + b"b")
        assert not reads(grammar.nodes, grammar.root, b"a" * 200 + b" " * 200)
