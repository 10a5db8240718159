"""Arrays in JSON: items by their place, then any number of others."""

from __future__ import annotations

from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.schema.keywords import Flat, Schema, refuse, same
from nemotron_gguf.runner.grammar.schema.objects import Compile
from nemotron_gguf.runner.grammar.schema.text import literal, space

MAX_UNIQUE = 64  # values of which each may come once


def arrays(builder: Builder, flat: Flat, path: str, compiled: Compile, values: list[object] | None) -> int:
    """An array. `values`: those of `items` where they are listed, for arrays without repetition."""
    low, high = int(flat.get("minItems", 0)), flat.get("maxItems")
    high = None if high is None else int(high)
    gap = space(builder)
    if flat.get("uniqueItems") and (high is None or high > 1):
        inside = _unique(builder, flat, path, values, low, high)
    else:
        inside = _items(builder, flat, path, compiled, low, high)
    return builder.chain(builder.text("["), gap, inside, gap, builder.text("]"))


def _items(builder: Builder, flat: Flat, path: str, compiled: Compile, low: int, high: int | None) -> int:
    prefix: list[Schema] = flat.get("prefixItems", [])[: high if high is not None else None]
    wanted = flat.get("items", not prefix or low > len(prefix))
    room = None if high is None else max(high - len(prefix), 0)
    comma = builder.chain(builder.text(","), space(builder))
    behind = builder.empty
    if wanted is not False and room != 0:
        item = compiled(wanted, f"{path}/items")
        behind = _repeated(builder, item, comma, max(low - len(prefix), 0), room, is_first=not prefix)
    elif low > len(prefix):
        return builder.never
    for at in range(len(prefix) - 1, -1, -1):
        item = compiled(prefix[at], f"{path}/prefixItems/{at}")
        here = builder.chain(*([comma] if at else []), item, behind)
        behind = here if at < low else builder.optional(here)
    return behind if high is None or high >= low else builder.never


def _repeated(builder: Builder, item: int, comma: int, low: int, high: int | None, *, is_first: bool) -> int:
    following = builder.chain(comma, item)
    if not is_first:
        return builder.repeat(following, low, high)
    some = builder.chain(item, builder.repeat(following, max(low - 1, 0), None if high is None else high - 1))
    return some if low else builder.optional(some)


def _unique(builder: Builder, flat: Flat, path: str, values: list[object] | None, low: int, high: int | None) -> int:
    """Listed values, each once at most, in the order of the list."""
    if values is None or flat.get("prefixItems"):
        refuse(f"{path}/uniqueItems", "it is kept to where the items are an enum alone; leave it out otherwise")
    different: list[object] = []
    for value in values:
        if not any(same(value, other) for other in different):
            different.append(value)
    if len(different) > MAX_UNIQUE:
        refuse(f"{path}/uniqueItems", f"it is kept to for up to {MAX_UNIQUE} values, these are {len(different)}")
    comma = builder.chain(builder.text(","), space(builder))
    most = len(different) if high is None else min(high, len(different))
    behind = [builder.empty if low <= count <= most else builder.never for count in range(len(different) + 1)]
    for at in range(len(different) - 1, -1, -1):
        item = builder.text(literal(different[at]))
        behind = [
            builder.choice(builder.chain(*([comma] if count else []), item, behind[count + 1]), behind[count])
            for count in range(at + 1)
        ]
    return behind[0]
