"""JSON from a checkpoint, read with care: bounded, UTF-8, objects only, no key twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

from nemotron_gguf.convert.errors import ConvertError

Object: TypeAlias = dict[str, object]
"""A JSON object; its values are checked where they are used."""

MAX_JSON = 64 << 20  # bytes; the family's tokenizer.json is 17 MB, its shard index 2 MB


def read_object(path: Path, limit: int = MAX_JSON) -> Object:
    """The object in a JSON file; raises ConvertError for anything else, or for a file beyond `limit` bytes."""
    return parse_object(read_text(path, limit), str(path))


def read_optional(path: Path) -> Object:
    """As `read_object`, an empty object where there is no such file."""
    return read_object(path) if path.is_file() else {}


def read_text(path: Path, limit: int = MAX_JSON) -> str:
    """A UTF-8 file as text, refused beyond `limit` bytes."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise ConvertError(f"{path} has {size} bytes, at most {limit} expected; this is not a sound checkpoint")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise ConvertError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path} is no UTF-8 at byte {error.start}; download it again") from None


def parse_object(text: str, what: str) -> Object:
    """The JSON object in `text`; `what` names it in errors."""
    try:
        value: object = json.loads(text, object_pairs_hook=_unique)
    except _Duplicate as error:
        raise ConvertError(f"{what} has the key {str(error)!r} twice, expected once") from None
    except RecursionError:
        raise ConvertError(f"{what} is nested too deeply to be what it claims") from None
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise ConvertError(f"{what} is no valid JSON: {error}; download it again") from None
    if "\\ud" in text.lower() and not _is_unicode(value):
        raise ConvertError(f"{what} holds a text that is no Unicode (half of a surrogate pair)")
    if not isinstance(value, dict):
        raise ConvertError(f"{what} holds a {type(value).__name__}, expected a JSON object")
    return value


def _is_unicode(value: object) -> bool:
    """Escapes in JSON can make texts that no file can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Duplicate(Exception):  # noqa: N818 - never leaves this module
    pass


def _unique(pairs: list[tuple[str, object]]) -> Object:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Duplicate(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found
