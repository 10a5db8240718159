"""Typed, checked look-ups in a config.json; an error names the key, what was found and what was expected."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.json_files import Object

MAX_SIZE = 1 << 24  # no width, count or vocabulary of a language model comes near it


@dataclass(frozen=True)
class Fields:
    """A config's keys. Where several names are given, they are spellings of one thing: all present must agree."""

    config: Object

    def has(self, *keys: str) -> bool:
        """Whether one of the keys is there and not null."""
        return any(self.config.get(key) is not None for key in keys)

    def find(self, *keys: str) -> tuple[str, object]:
        """The first of the keys that is there; ConvertError where none is, or where two disagree."""
        found = [(key, self.config[key]) for key in keys if self.config.get(key) is not None]
        if not found:
            raise ConvertError(f"config.json lacks {' or '.join(keys)}; is this a complete Nemotron checkpoint?")
        for key, value in found[1:]:
            if value != found[0][1]:
                raise ConvertError(
                    f"config.json contradicts itself: {found[0][0]} is {brief(found[0][1])}, {key} is {brief(value)}"
                )
        return found[0]

    def size(self, *keys: str, minimum: int = 1, maximum: int = MAX_SIZE, default: int | None = None) -> int:
        """A whole number between `minimum` and `maximum`."""
        if default is not None and not self.has(*keys):
            return default
        key, value = self.find(*keys)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise wrong(key, value, f"a whole number from {minimum} to {maximum}")
        return value

    def number(self, *keys: str) -> float:
        """A positive finite number."""
        key, value = self.find(*keys)
        try:
            good = not isinstance(value, bool) and isinstance(value, int | float) and 0 < float(value) < math.inf
        except OverflowError:
            good = False
        if not good:
            raise wrong(key, value, "a positive number")
        assert isinstance(value, int | float)
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            raise wrong(key, value, "true or false")
        return value

    def only(self, key: str, expected: object, why: str) -> None:
        """Raise unless the key is absent, null or `expected`: the one value that a converted file can express."""
        value = self.config.get(key)
        if value is not None and value != expected:
            raise ConvertError(f"config.json has {key} = {brief(value)}, expected {brief(expected)}: {why}")


def wrong(key: str, value: object, expected: str) -> ConvertError:
    """The error for a key of the wrong kind."""
    return ConvertError(f"config.json has {key} = {brief(value)}, expected {expected}")


def brief(value: object) -> str:
    """A value as text short enough for one line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
