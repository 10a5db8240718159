"""Sets of characters as ranges of code points, sorted and apart from each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""First and last code point of each range."""

LAST = 0x10FFFF
ANY: Ranges = ((1, 0xD7FF), (0xE000, LAST))
"""All characters of Unicode but NUL, which ends texts of libraries, and the halves of surrogate pairs."""

_LENGTHS = (0x7F, 0x7FF, 0xFFFF, LAST)  # the last code points of one byte, of two, three and four


def ranges_of(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in any order as they ought to be.

    >>> ranges_of([(5, 9), (1, 2), (3, 4), (8, 12)])
    ((1, 12),)
    """
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pair for pair in pairs if pair[0] <= pair[1]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def of_text(letters: str) -> Ranges:
    """The characters of a text."""
    return ranges_of((ord(letter), ord(letter)) for letter in letters)


def both(one: Ranges, other: Ranges) -> Ranges:
    """What is in both."""
    return ranges_of((max(a, c), min(b, d)) for a, b in one for c, d in other)


def without(one: Ranges, other: Ranges) -> Ranges:
    """What is in the first alone.

    >>> without(((1, 9),), ((3, 4), (9, 12)))
    ((1, 2), (5, 8))
    """
    left = list(one)
    for low, high in other:
        cut = [((a, min(b, low - 1)), (max(a, high + 1), b)) for a, b in left]
        left = [part for pair in cut for part in pair if part[0] <= part[1]]
    return ranges_of(left)


def has(ranges: Ranges, value: int) -> bool:
    """Whether a value is in one of them."""
    return any(low <= value <= high for low, high in ranges)


def utf8(ranges: Ranges) -> Iterator[tuple[tuple[int, int], ...]]:
    """The same characters as sequences of ranges of bytes.

    >>> list(utf8(((0x41, 0x5A), (0xE0, 0xFF))))
    [((65, 90),), ((195, 195), (160, 191))]
    """
    for low, high in both(ranges, ANY):
        begin = low
        for last in _LENGTHS:
            if begin <= min(last, high):
                yield from _same_length(begin, min(last, high))
            begin = max(begin, last + 1)


def _same_length(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut so that in every part the bytes behind the first that differs take all their values."""
    for bits in (6, 12, 18)[: len(chr(high).encode()) - 1]:
        mask = (1 << bits) - 1
        if low & ~mask == high & ~mask:
            continue
        if low & mask:
            yield from _same_length(low, low | mask)
            yield from _same_length((low | mask) + 1, high)
            return
        if high & mask != mask:
            yield from _same_length(low, (high & ~mask) - 1)
            yield from _same_length(high & ~mask, high)
            return
    yield tuple(zip(chr(low).encode(), chr(high).encode(), strict=True))
