"""What a chat template may cost: time, memory, and the size of any one value.

A template is a program from a stranger's file. The sandbox keeps it from touching anything; these limits keep it from
taking the machine: a thread cannot be ended from outside, so every step that could be large asks before it is done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import islice
from typing import Any, TypeAlias

MAX_SOURCE = 1 << 18  # characters of a template; NVIDIA's have 10,000
MAX_TOKENS = 30_000  # of a source; NVIDIA's have 4,000
MAX_SECONDS = 2.0
SHARE_OF_TRIAL = 1 / 8  # of these seconds, for a rendering that only finds out what a template does
MAX_BYTES = 160 << 20  # made in one rendering, all told; a prompt of a million tokens has 5 MB
MAX_TEXT = 16 << 20  # characters of one text, the prompt included
MAX_ITEMS = 250_000  # of one list
MAX_PIECES = 2_000_000  # of output
MAX_WEIGHT = 4 << 20  # of one list or mapping with all that is in it
MAX_BITS = 4096  # of a whole number
NODE = 16  # what an item weighs beside its text


class TooMuchError(Exception):
    """A template that takes more than a chat template needs."""


class Meter:
    """Counts what one rendering takes. Raises TooMuchError at the limit.

    Lists and mappings are weighed once, when they are made: in the sandbox none of them changes later.
    """

    def __init__(self, inputs: object = (), seconds: float | None = None) -> None:
        """`inputs`: messages and tools, of which the template may make lists of its own; `seconds` if not the usual."""
        self._known: dict[int, tuple[object, int]] = {}  # holds what it knows, so that no other gets its id
        self._seconds = MAX_SECONDS if seconds is None else seconds
        self._most, self._bytes = 1 << 40, 0
        self._start, self._worked = time.monotonic(), time.thread_time()
        self._end = self._start + self._seconds
        self._most = MAX_WEIGHT + 2 * self.weigh(inputs)

    def tick(self) -> None:
        """A step has been taken."""
        if time.monotonic() > self._end:
            self._look()

    def _look(self) -> None:
        """The time is over, but for what this thread had to wait for others: three times as long at most."""
        left = self._seconds - (time.thread_time() - self._worked)
        now = time.monotonic()
        if left <= 0 or now > self._start + 3 * self._seconds:
            raise TooMuchError(f"more than the {MAX_SECONDS:g} seconds that it may take")
        self._end = now + left

    def text(self, length: int, width: int = 1) -> None:
        """A text of so many characters, of `width` bytes each, is about to be made."""
        if length > MAX_TEXT:
            raise TooMuchError(f"a text of {length} characters")
        self._charge(length * width + 64)

    def made(self, value: Any, each: int = 64) -> Any:
        """A value that has been made, a list of items of so many bytes; a list, where it was an iterator or a view."""
        if isinstance(value, str):
            self.text(len(value), 1 if value.isascii() else 4)
        elif isinstance(value, list | tuple | dict):
            self._charge(each * len(value) + 256)
            self.weigh(value)
        elif isinstance(value, Iterator | KeysView | ValuesView | ItemsView):
            return self.made(items(value))
        return value

    def weigh(self, value: object) -> int:
        """Characters and items of a value, each as often as it would be written out."""
        if isinstance(value, str):
            return NODE + len(value)
        if isinstance(value, int):
            return NODE + value.bit_length() // 3
        if not isinstance(value, list | tuple | dict):
            return NODE
        known = self._known.get(id(value))
        if known:
            return known[1]
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        total = NODE + sum(map(self.weigh, parts))
        if total > self._most:
            raise TooMuchError("a list that is too long")
        self._known[id(value)] = value, total
        return total

    def weigh_all(self, values: Iterable[object]) -> int:
        """What values weigh that are handed over together, as a macro's `varargs`."""
        total = sum(map(self.weigh, values))
        if total > self._most:
            raise TooMuchError("a list that is too long")
        return total

    def _charge(self, size: int) -> None:
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise TooMuchError(f"more than {MAX_BYTES >> 20} MB of memory")


def items(values: Iterable[Any], most: int = MAX_ITEMS) -> list[Any]:
    """A list of what an iterator gives. Raises TooMuchError where that is more than `most`."""
    found = list(islice(values, most + 1))
    if len(found) > most:
        raise TooMuchError(f"a list of more than {most} items")
    return found


Guard: TypeAlias = Callable[..., Any]
"""Does what a method does, for (meter, the text, the arguments), once it is known to be small."""


def join(meter: Meter, glue: str, values: Iterable[Any], most: int = MAX_ITEMS) -> str:
    """`str.join`."""
    texts = items(values, most)
    meter.text(sum(len(text) for text in texts if isinstance(text, str)) + len(glue) * len(texts))
    return glue.join(texts)


def replace(meter: Meter, text: str, old: str, new: str, count: int = -1) -> str:
    """`str.replace`."""
    times = text.count(old) if count < 0 else min(count, text.count(old))
    meter.text(len(text) + times * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def _split(meter: Meter, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    meter.text(len(text))
    return _parts(text.split(sep, MAX_ITEMS if maxsplit < 0 else min(maxsplit, MAX_ITEMS)))


def _rsplit(meter: Meter, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    meter.text(len(text))
    return _parts(text.rsplit(sep, MAX_ITEMS if maxsplit < 0 else min(maxsplit, MAX_ITEMS)))


def _parts(parts: list[str]) -> list[str]:
    if len(parts) > MAX_ITEMS:
        raise TooMuchError(f"a list of more than {MAX_ITEMS} items")
    return parts


_BREAKS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def _splitlines(meter: Meter, text: str, keepends: bool = False) -> list[str]:
    meter.text(len(text))
    items(_BREAKS.finditer(text))
    return text.splitlines(keepends)


def _padded(name: str) -> Guard:
    def guard(meter: Meter, text: str, width: int, *fill: str) -> str:
        meter.text(max(len(text), width))
        padded: str = getattr(text, name)(width, *fill)
        return padded

    return guard


def _expandtabs(meter: Meter, text: str, tabsize: int = 8) -> str:
    meter.text(len(text) + text.count("\t") * max(tabsize, 0))
    return text.expandtabs(tabsize)


_SAME = (
    "strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "swapcase", "casefold", "removeprefix",
    "removesuffix", "partition", "rpartition", "startswith", "endswith", "count", "find", "rfind", "index", "rindex",
    "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
    "isspace", "istitle", "isupper",
)  # fmt: skip
"""Methods whose result is no larger than what they are called on."""

METHODS: Mapping[type, Mapping[str, Guard | None]] = {
    str: dict.fromkeys(_SAME)
    | {name: _padded(name) for name in ("center", "ljust", "rjust", "zfill")}
    | {"join": join, "replace": replace, "split": _split, "rsplit": _rsplit, "splitlines": _splitlines}
    | {"expandtabs": _expandtabs},
    dict: dict.fromkeys(("copy", "get", "items", "keys", "values")),
    list: dict.fromkeys(("copy", "count", "index")),
    tuple: dict.fromkeys(("count", "index")),
    range: dict.fromkeys(("count", "index")),
    float: dict.fromkeys(("is_integer",)),
}
"""What templates may call on values, by type and name; None where nothing can grow."""

_PERCENT = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")
_BRACES = re.compile(r":[^{}]*(?:\d{5}|\{)")
_WIDEST = 10_000  # what a value may be padded to
_ESCAPED = 10  # characters that one may be written as


def check_percent(meter: Meter, form: str, weight: int) -> None:
    """Whether `form % values` is small, with values of some weight."""
    specs = [spec.groups() for spec in items(_PERCENT.finditer(form))]
    widths = [width for spec in specs for width in spec if width]
    if any(len(width) > 4 or width == "*" for width in widths):
        raise TooMuchError("a text padded to a great width")
    escaped = _ESCAPED if "r" in form or "a" in form else 1
    meter.text(len(form) + len(widths) * _WIDEST + len(specs) * weight * escaped)


def check_braces(meter: Meter, form: str, weight: int) -> None:
    """Whether `form.format(...)` is small, with values of some weight."""
    if _BRACES.search(form):
        raise TooMuchError("a text padded to a great width")
    escaped = _ESCAPED if "!" in form else 1
    meter.text(len(form) + form.count(":") * _WIDEST + form.count("{") * weight * escaped)


def binary(meter: Meter, operator: str, left: Any, right: Any) -> None:
    """Whether the result of an operator is small."""
    if operator == "%":
        if isinstance(left, str):
            check_percent(meter, left, meter.weigh(right))
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
            raise TooMuchError("a number that is too large")
    elif operator == "*":
        _product(meter, left, right)
    elif isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        if isinstance(left, str):
            meter.text(len(left) + len(right))
        elif len(left) + len(right) > MAX_ITEMS:
            raise TooMuchError(f"a list of more than {MAX_ITEMS} items")


def _product(meter: Meter, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > MAX_BITS:
            raise TooMuchError("a number that is too large")
        return
    for value, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(value, str):
            meter.text(len(value) * times)
        elif isinstance(times, int) and isinstance(value, list | tuple) and times * len(value) > MAX_ITEMS:
            raise TooMuchError(f"a list of more than {MAX_ITEMS} items")
