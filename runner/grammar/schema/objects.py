"""Objects in JSON: the properties in the schema's order, and others behind them where it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nemotron_gguf.runner.grammar.automata import intersection
from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.regex import read_regex
from nemotron_gguf.runner.grammar.schema.flatten import all_of, schemas_for
from nemotron_gguf.runner.grammar.schema.keywords import Flat, Schema, refuse
from nemotron_gguf.runner.grammar.schema.text import PLAIN, any_other_name, literal, space, written

Compile = Callable[[Schema, str], int]


@dataclass(frozen=True)
class _Limits:
    """How many properties there are."""

    low: int
    high: int | None

    @property
    def counted(self) -> int:
        """Beyond that many it makes no difference how many there are."""
        return max(self.low, 1 if self.high is None else self.high + 1, 1)


def objects(builder: Builder, flat: Flat, path: str, compiled: Compile) -> int:
    """An object. `compiled` gives the node of a schema at a path."""
    names = list(dict.fromkeys([*flat.get("properties", {}), *flat.get("required", ())]))
    low, high = int(flat.get("minProperties", 0)), flat.get("maxProperties")
    limits = _Limits(low, None if high is None else int(high))
    others = _others(builder, flat, names, path, compiled)
    if others is not None and limits.low > len(names) + 1:
        refuse(f"{path}/minProperties", "names may come twice, so more than one beside those named cannot be promised")
    members = [_named(builder, flat, name, path, compiled) for name in names]
    required = [name in flat.get("required", ()) for name in names]
    inside = _members(builder, members, required, others, limits)
    gap = space(builder)
    return builder.chain(builder.text("{"), gap, inside, gap, builder.text("}"))


def _named(builder: Builder, flat: Flat, name: str, path: str, compiled: Compile) -> int:
    value = compiled(all_of(schemas_for(flat, name)), f"{path}/properties/{_escaped(name)}")
    return _pair(builder, builder.text(literal(name)), value)


def _escaped(name: str) -> str:
    return name[:80].replace("~", "~0").replace("/", "~1")


def _pair(builder: Builder, name: int, value: int) -> int:
    return builder.chain(name, builder.text(":"), space(builder), value)


def _others(builder: Builder, flat: Flat, names: Iterable[str], path: str, compiled: Compile) -> int | None:
    """A property that is not named: by a pattern, or any where the schema says so or names none; None for none."""
    patterns = flat.get("patternProperties", {})
    quote = builder.text('"')
    if len(patterns) > 1:
        refuse(f"{path}/patternProperties", "only one pattern is kept to, since a name could match several")
    if patterns:
        (pattern, schema), raw = next(iter(patterns.items())), Builder()
        roots = [read_regex(pattern, raw), any_other_name(raw, names, PLAIN)]
        key = intersection(raw.nodes, roots, builder, written)
        value = compiled(schema, f"{path}/patternProperties/{_escaped(pattern)}")
        return _pair(builder, builder.chain(quote, key, quote), value)
    schema = flat.get("additionalProperties", not flat.get("properties"))
    if schema is False:
        return None
    key = any_other_name(builder, names, PLAIN)
    return _pair(builder, builder.chain(quote, key, quote), compiled(schema, f"{path}/additionalProperties"))


def _members(builder: Builder, members: list[int], required: list[bool], others: int | None, limits: _Limits) -> int:
    """From the last to the first: what may follow behind so many properties."""
    comma = builder.chain(builder.text(","), space(builder))
    most = max(min(limits.counted, len(members)), 1)
    behind = [_rest(builder, count, comma, others, limits) for count in range(most + 1)]
    for member, is_required in zip(reversed(members), reversed(required), strict=True):
        before = []
        for count in range(most + 1):
            taken = builder.chain(*([comma] if count else []), member, behind[min(count + 1, most)])
            before.append(taken if is_required else builder.choice(taken, behind[count]))
        behind = before
    return behind[0]


def _rest(builder: Builder, count: int, comma: int, others: int | None, limits: _Limits) -> int:
    """Behind all named properties, of which there are so many: others, or the end."""
    missing = limits.low - count
    if (limits.high is not None and count > limits.high) or missing > (others is not None):
        return builder.never
    if others is None or count == limits.high:
        return builder.empty
    high = None if limits.high is None else limits.high - count
    following = builder.chain(comma, others)
    if count:
        return builder.repeat(following, missing if missing > 0 else 0, high)
    some = builder.chain(others, builder.repeat(following, 0, None if high is None else high - 1))
    return some if missing > 0 else builder.optional(some)
