"""Numbers between bounds, as texts: digit by digit, so that each bound is kept exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor
from typing import Any

from nemotron_gguf.runner.grammar.graph import Builder
from nemotron_gguf.runner.grammar.ranges import of_text
from nemotron_gguf.runner.grammar.schema.keywords import Flat, refuse

LARGEST = 10**15 - 1  # whole numbers beyond it are not exact in every program that reads them
LARGEST_BOUNDED = 10**9 - 1  # of a number with a fraction and one bound
MAX_DIGITS = 40  # of a bound
MAX_MULTIPLE = 200
MAX_LISTED = 2000  # multiples between two bounds

_DIGIT = of_text("0123456789")


def integers(builder: Builder, flat: Flat, path: str) -> int:
    """Whole numbers, without a fraction and exponent."""
    low, high = _whole_bounds(flat, path)
    steps = [step for step in flat.get("multiples", ()) if step != 1]
    if steps:
        return _multiples(builder, low, high, steps, path)
    if low is None and high is None:
        return _any_integer(builder)
    if low is None:
        low = min(-LARGEST, 10 * (high or 0))
    return _between(builder, low, max(LARGEST, 10 * low) if high is None else high)


def _any_integer(builder: Builder) -> int:
    digits = builder.repeat(builder.chars(_DIGIT), 0, len(str(LARGEST)) - 1)
    natural = builder.choice(builder.text("0"), builder.chain(builder.chars(of_text("123456789")), digits))
    return builder.chain(builder.optional(builder.text("-")), natural)


def _whole_bounds(flat: Flat, path: str) -> tuple[int | None, int | None]:
    low = [ceil(_decimal(flat, key, path)) for key in ("minimum",) if key in flat]
    low += [floor(_decimal(flat, key, path)) + 1 for key in ("exclusiveMinimum",) if key in flat]
    high = [floor(_decimal(flat, key, path)) for key in ("maximum",) if key in flat]
    high += [ceil(_decimal(flat, key, path)) - 1 for key in ("exclusiveMaximum",) if key in flat]
    return max(low, default=None), min(high, default=None)


def _decimal(flat: Flat, key: str, path: str) -> Decimal:
    value = Decimal(str(flat[key]))
    if value and (abs(value) >= Decimal(10) ** MAX_DIGITS or len(value.as_tuple().digits) > MAX_DIGITS):
        refuse(f"{path}/{key}", f"{str(flat[key])[:60]} has more than {MAX_DIGITS} digits; leave the bound out")
    if value and abs(value) < Decimal(10) ** -MAX_DIGITS:
        refuse(f"{path}/{key}", "it is too near to 0")
    return value


def _between(builder: Builder, low: int, high: int) -> int:
    options = []
    if low < 0:
        options.append(builder.chain(builder.text("-"), _natural(builder, max(1, -high), -low)))
    if high >= 0:
        options.append(_natural(builder, max(low, 0), high))
    return builder.choice(*options)


def _natural(builder: Builder, low: int, high: int) -> int:
    """Whole numbers from 0 on, between two of them."""
    options = []
    for length in range(len(str(low)), len(str(high)) + 1):
        least, most = max(low, 10 ** (length - 1) if length > 1 else 0), min(high, 10**length - 1)
        if least <= most:
            options.append(_digits(builder, str(least), str(most)))
    return builder.choice(*options)


def _digits(builder: Builder, low: str, high: str) -> int:
    """Digits between two rows of digits of the same length."""
    if not low:
        return builder.empty
    rest = len(low) - 1
    if set(low) == {"0"} and set(high) == {"9"}:
        return builder.repeat(builder.chars(_DIGIT), len(low), len(low))
    if low[0] == high[0]:
        return builder.chain(builder.text(low[0]), _digits(builder, low[1:], high[1:]))
    first = builder.chain(builder.text(low[0]), _digits(builder, low[1:], "9" * rest))
    last = builder.chain(builder.text(high[0]), _digits(builder, "0" * rest, high[1:]))
    between = range(int(low[0]) + 1, int(high[0]))
    options = [first, last]
    if between:
        any_digits = builder.repeat(builder.chars(_DIGIT), rest, rest)
        options.append(builder.chain(builder.chars(of_text("".join(map(str, between)))), any_digits))
    return builder.choice(*options)


def _multiples(builder: Builder, low: int | None, high: int | None, steps: list[Any], path: str) -> int:
    if any(step != int(step) for step in steps):
        refuse(f"{path}/multipleOf", "fractions cannot be counted exactly; ask for whole numbers")
    step = 1
    for other in map(int, steps):
        step = step * other // _common_divisor(step, other)
    if low is not None and high is not None and (high - low) // step <= MAX_LISTED:
        return builder.literals(map(str, range(-(-low // step) * step, high + 1, step)))
    if low is None and high is None and step <= MAX_MULTIPLE:
        return builder.chain(builder.optional(builder.text("-")), _divisible(builder, step))
    why = f"without bounds it is kept to up to {MAX_MULTIPLE}, between two bounds {MAX_LISTED} multiples"
    return refuse(f"{path}/multipleOf", why)


def _common_divisor(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one


def _divisible(builder: Builder, step: int) -> int:
    """Whole numbers by what is left when they are divided: a state for each remainder."""
    states = [builder.later() for _ in range(step)]
    for rest in range(step):
        options = [builder.empty] if rest == 0 else []
        options += [builder.chain(builder.text(str(digit)), states[(rest * 10 + digit) % step]) for digit in range(10)]
        builder.define(states[rest], builder.choice(*options))
    first = [builder.chain(builder.text(str(digit)), states[digit % step]) for digit in range(1, 10)]
    return builder.choice(builder.text("0"), *first)


def any_numbers(builder: Builder, flat: Flat, path: str) -> int:
    """Numbers with or without a fraction, and without bounds an exponent."""
    if "multiples" in flat:
        return integers(builder, flat, path)  # of whole numbers each is a number
    bounds = [key for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum") if key in flat]
    if bounds:
        return _bounded(builder, *_bounds(flat, path))
    digits = builder.chars(_DIGIT)
    sign = builder.optional(builder.chars(of_text("+-")))
    power = builder.optional(builder.chars(of_text("eE")), sign, builder.repeat(digits, 1, 2))
    fraction = builder.optional(builder.text("."), builder.repeat(digits, 1, 16))
    return builder.chain(integers(builder, {}, path), fraction, power)


@dataclass(frozen=True)
class _Bound:
    """A bound above 0; `strict` where it is not itself allowed."""

    value: Decimal
    strict: bool

    @property
    def whole(self) -> int:
        """What stands before the point."""
        return int(self.value)

    @property
    def fraction(self) -> str:
        """The digits behind the point."""
        return f"{self.value:f}".partition(".")[2]


def _bounds(flat: Flat, path: str) -> tuple[_Bound, _Bound]:
    """The lowest and the highest number; where only one is asked for, the other is far away."""
    low = [
        _Bound(_decimal(flat, key, path), key != "minimum") for key in ("minimum", "exclusiveMinimum") if key in flat
    ]
    high = [
        _Bound(_decimal(flat, key, path), key != "maximum") for key in ("maximum", "exclusiveMaximum") if key in flat
    ]
    lowest = max(low, key=lambda bound: (bound.value, bound.strict), default=None)
    highest = min(high, key=lambda bound: (bound.value, not bound.strict), default=None)
    far = Decimal(LARGEST_BOUNDED)
    lowest = lowest or _Bound(min(-far, highest.value * 2 if highest else -far), False)
    highest = highest or _Bound(max(far, lowest.value * 2), False)
    return lowest, highest


def _bounded(builder: Builder, low: _Bound, high: _Bound) -> int:
    zero, options = Decimal(0), []
    if low.value > high.value:
        return builder.never
    if low.value < zero:  # never -0, which is 0
        nearest = _Bound(-high.value, high.strict) if high.value < zero else _Bound(zero, True)
        options.append(builder.chain(builder.text("-"), _magnitude(builder, nearest, _Bound(-low.value, low.strict))))
    if high.value >= zero:
        options.append(_magnitude(builder, low if low.value >= zero else _Bound(zero, False), high))
    return builder.choice(*options)


def _magnitude(builder: Builder, low: _Bound, high: _Bound) -> int:
    """Numbers from 0 on between two of them."""
    room = max(0, min(10, 15 - len(str(high.whole))))  # digits that every program tells apart
    near = [room if bound.strict else max(room, len(bound.fraction)) for bound in (low, high)]
    if low.whole == high.whole:
        tail = _Tail(builder, low.strict, high.strict)
        return builder.chain(builder.text(str(low.whole)), tail.after_whole(low.fraction, high.fraction, max(near)))
    above, below = _Tail(builder, low.strict, False), _Tail(builder, False, high.strict)
    options = [
        builder.chain(builder.text(str(low.whole)), above.after_whole(low.fraction, None, near[0])),
        builder.chain(builder.text(str(high.whole)), below.after_whole(None, high.fraction, near[1])),
    ]
    if high.whole - low.whole > 1:
        free = _Tail(builder, False, False).after_whole(None, None, room)
        options.append(builder.chain(_natural(builder, low.whole + 1, high.whole - 1), free))
    return builder.choice(*options)


class _Tail:
    """The digits behind a point, while what came before equals a bound (its digits that are left) or not (None)."""

    def __init__(self, builder: Builder, above: bool, below: bool) -> None:
        """`above`, `below`: the bound itself is not allowed."""
        self.builder, self.above, self.below = builder, above, below

    def after_whole(self, low: str | None, high: str | None, room: int) -> int:
        """A point and digits behind it, `room` of them at most, or nothing where that is right."""
        options = [self.builder.empty] if self._may_end(low, high) else []
        more = list(self._more(low, high, room))
        if more:
            options.append(self.builder.chain(self.builder.text("."), self.builder.choice(*more)))
        return self.builder.choice(*options)

    def _digits(self, low: str | None, high: str | None, room: int) -> int:
        options = [self.builder.empty] if self._may_end(low, high) else []
        return self.builder.choice(*options, *self._more(low, high, room))

    def _more(self, low: str | None, high: str | None, room: int) -> Iterator[int]:
        """At least one more digit."""
        if room == 0:
            return
        least = 0 if low is None else int(low[:1] or 0)
        most = 9 if high is None else int(high[:1] or 0)
        for digit in range(least, most + 1):
            below = low[1:] if low is not None and digit == least else None
            above = high[1:] if high is not None and digit == most else None
            if below is None and above is None:
                rest = self.builder.repeat(self.builder.chars(_DIGIT), 0, room - 1)
            else:
                rest = self._digits(below, above, room - 1)
            yield self.builder.chain(self.builder.text(str(digit)), rest)

    def _may_end(self, low: str | None, high: str | None) -> bool:
        is_low = low is None or (not low.strip("0") and not self.above)
        return is_low and (high is None or bool(high.strip("0")) or not self.below)
