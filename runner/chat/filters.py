"""Jinja's filters and tests for chat templates, each behind a guard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, Protocol, TypeAlias

from nemotron_gguf.runner.chat.limits import Meter, TooMuchError, check_percent, items, join, replace

Filter: TypeAlias = Callable[..., Any]


class Box(Protocol):
    """Whatever holds the meter of the rendering under way."""

    meter: Meter


_LEFT_OUT = ("urlize", "random", "pprint")
"""Jinja's filters that no prompt needs and nothing bounds."""

_PLAIN = frozenset({
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "first", "float", "items", "last",
    "length", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe", "select", "selectattr",
    "sort", "string", "trim", "unique", "upper",
})  # fmt: skip
"""Filters that take a time in proportion to what they are given, and give no more than a few times as much."""

_SMALL = 1 << 15
"""Characters, items or amount that the other filters are given at most: some take the square of that."""


def guarded_filters(box: Box, given: Mapping[str, Any]) -> dict[str, Filter]:
    """Jinja's filters, each behind a guard, and those through which `Guarding` sends everything else."""
    found: dict[str, Filter] = {
        name: stepping(box, given[name], None if name in _PLAIN else _SMALL) for name in given if name not in _LEFT_OUT
    }

    def each(values: Any) -> Iterator[Any]:
        for value in values:
            box.meter.tick()
            yield value

    def step(value: Any) -> Any:
        box.meter.tick()
        return value

    def joined(values: Any, d: Any = "", attribute: Any = None) -> str:
        if attribute is not None:
            values = found["map"].__wrapped__(box.environment, values, attribute=attribute)  # type: ignore[attr-defined]
        return join(box.meter, str(d), [_written(box, value) for value in items(values)])

    def replaced(text: Any, old: Any, new: Any, count: int | None = None) -> str:
        return replace(box.meter, _written(box, text), str(old), str(new), -1 if count is None else count)

    def formatted(form: Any, *args: Any, **kwargs: Any) -> Any:
        check_percent(box.meter, str(form), box.meter.weigh_all((*args, *kwargs.values())))
        return str(form) % (kwargs or args)

    def listed(values: Any) -> list[Any]:
        return items(values)

    def escaped(value: Any) -> Any:
        text = _written(box, value)
        box.meter.text(len(text) + 5 * sum(map(text.count, "&<>'\"")))
        return given["escape"](value)

    def together(values: Any) -> str:
        return join(box.meter, "", [_written(box, value) for value in values])

    def cut(values: Any, *ends: Any) -> Any:
        box.meter.tick()
        return box.meter.made(values[slice(*ends)], 8)

    def put(value: Any) -> Any:
        return box.meter.made(value, 8)

    own: dict[str, Filter] = {
        "join": joined,
        "replace": replaced,
        "format": formatted,
        "list": listed,
        "escape": escaped,
    }
    own |= {"e": escaped, "tojson": _json_filter(box)}
    made = {name: stepping(box, function) for name, function in own.items()}
    inner = {"put together": together, "each item": each, "a step": step, "a slice": cut, "a list": put}
    return found | made | inner


def _written(box: Box, value: Any) -> str:
    """A value as text, once it is known to be small."""
    if isinstance(value, str):
        return value
    box.meter.text(box.meter.weigh(value))
    return str(value)


def stepping(box: Box, function: Filter, most: int | None = None) -> Filter:
    """A filter or test that counts as a step, takes `most` at most, and gives a list where it gave an iterator."""

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        meter = box.meter
        meter.tick()
        if most is not None:
            args = tuple(items(arg, most) if isinstance(arg, Iterator) else arg for arg in args)
            size = 1
            for value in (*args, *kwargs.values()):
                size *= _amount(meter, value, most)
            if size > most << 7:
                raise TooMuchError("a filter that is given too much")
        return meter.made(function(*args, **kwargs))

    return guarded


def _amount(meter: Meter, value: Any, most: int) -> int:
    """How much a filter could make of a value: a number's own size, a text's length."""
    if isinstance(value, bool) or not isinstance(value, int | str | list | tuple | dict):
        return 1
    size = abs(value) if isinstance(value, int) else len(value) if isinstance(value, str) else meter.weigh(value)
    if size > most:
        raise TooMuchError("a filter that is given too much")
    return max(size, 1)


def _json_filter(box: Box) -> Filter:
    def to_json(
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """As transformers has it: Jinja's own escapes for HTML."""
        if (isinstance(indent, int) and indent > 16) or len("".join(separators or ())) > 16:
            raise TooMuchError("JSON that is spread too wide")
        size = box.meter.weigh(value)
        box.meter.text(size if not indent else size * (2 + _depth(value) * indent // 8))
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    return to_json


def _depth(value: object) -> int:
    """How deep lists and mappings are nested."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | tuple | dict) and item]:
        level = items(part for item in level for part in (item.values() if isinstance(item, dict) else item))
        depth += 1
    return depth
