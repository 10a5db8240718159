"""A conversation's memory as a file: its tokens, what the model made of them, and the checkpoints along them.

The layout: eight bytes that say what it is, the header's length (u32), its SHA-256, the header as JSON, then the parts
that it lists, one after the other, each with its own SHA-256: the tokens as int32, the whole memory, the checkpoints.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nemotron_gguf.runner.engine.checkpoints import Checkpoint, Parked
from nemotron_gguf.runner.engine.context import State
from nemotron_gguf.runner.errors import RunnerError

MAGIC = b"NEMSTATE"
_VERSION = 1
_FIXED = struct.Struct("<8sI32s")
_LARGEST_HEADER = 1 << 20


def write_state(path: Path, identity: str, kept: Parked, *, replace: bool = False) -> int:
    """Write what was copied of a conversation, for this model and build (`identity`); the file's bytes.

    It appears whole or not at all. Raises RunnerError, in one sentence, where it cannot be written, or is there already
    and not to be replaced.
    """
    part = None
    try:
        _check_free(path, replace=replace)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            size = _write(file, identity, kept)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise RunnerError(f"the conversation's state cannot be saved to {path}: {error.strerror or error}") from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()
    return size


def _check_free(path: Path, *, replace: bool) -> None:
    if not path.exists():
        return
    if not path.is_file():
        raise RunnerError(f"{path} is no regular file; choose another name")
    if not replace:
        raise RunnerError(f"{path} exists; choose another name, or have it replaced")


def _write(file: BinaryIO, identity: str, kept: Parked) -> int:
    parts = list(_parts(kept))
    listed = [
        {"position": position, "bytes": data.nbytes, "sha256": hashlib.sha256(data.data).hexdigest()}
        for position, data in parts
    ]
    about = {"version": _VERSION, "identity": identity, "tokens": len(kept.tokens), "parts": listed}
    header = json.dumps(about).encode()
    file.write(_FIXED.pack(MAGIC, len(header), hashlib.sha256(header).digest()) + header)
    for _, data in parts:
        file.write(data.data)
    return file.tell()


def _parts(kept: Parked) -> Iterator[tuple[int, State]]:
    """The tokens, the whole memory behind them, the checkpoints."""
    assert kept.state is not None
    yield 0, np.array(kept.tokens, "<i4").view(np.uint8)
    yield len(kept.tokens), kept.state
    for one in kept.checkpoints:
        if one.state is not None:
            yield one.position, one.state


def read_state(path: Path, identity: str, limit: int, n_vocab: int) -> Parked:
    """What `write_state` wrote, of `limit` tokens at most, each below `n_vocab`.

    Raises RunnerError for a file that cannot be read, is damaged, or belongs to another model or build.
    """
    try:
        if path.exists() and not path.is_file():
            raise RunnerError(f"{path} is no regular file, expected one that a conversation was saved to")
        with path.open("rb") as file:
            return _read(file, path, identity, limit, n_vocab)
    except OSError as error:
        raise RunnerError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(file: BinaryIO, path: Path, identity: str, limit: int, n_vocab: int) -> Parked:
    about = _header(file, path)
    if about.get("version") != _VERSION or about.get("identity") != identity:
        raise RunnerError(
            f"{path} belongs to another model, another type of cache or another build; load what it was saved with"
        )
    n_tokens, parts = about.get("tokens"), _listed(about.get("parts"))
    sizes, positions = [part["bytes"] for part in parts], [part["position"] for part in parts[2:]]
    rest = os.fstat(file.fileno()).st_size - file.tell()
    if len(sizes) < 2 or sum(sizes) != rest or type(n_tokens) is not int or sizes[0] != 4 * n_tokens:
        raise _damaged(path)
    if sorted(set(positions)) != positions or not all(0 < place <= n_tokens for place in positions):
        raise _damaged(path)
    if n_tokens > limit:
        raise RunnerError(f"{path} holds {n_tokens} tokens, the context has {limit}; load with a larger --ctx-size")
    data = [_part(file, path, part) for part in parts]
    tokens = data[0].view("<i4").tolist()
    if not tokens or min(tokens) < 0 or max(tokens) >= n_vocab:
        raise _damaged(path)
    return Parked(tokens, data[1], [Checkpoint(*one) for one in zip(positions, data[2:], strict=True)])


def _listed(parts: object) -> list[dict[str, Any]]:
    """A header's list of parts as it was written; an empty one where it is none."""
    kinds = {"position": int, "bytes": int, "sha256": str}
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return []
    sound = all(type(part.get(key)) is kind for part in parts for key, kind in kinds.items())
    return parts if sound and all(part["bytes"] >= 0 for part in parts) else []


def _header(file: BinaryIO, path: Path) -> dict[str, Any]:
    fixed = file.read(_FIXED.size)
    if fixed[: len(MAGIC)] != MAGIC:
        raise RunnerError(f"{path} is no saved conversation's state")
    if len(fixed) < _FIXED.size:
        raise _damaged(path)
    _, length, digest = _FIXED.unpack(fixed)
    header = file.read(min(length, _LARGEST_HEADER))
    if len(header) != length or hashlib.sha256(header).digest() != digest:
        raise _damaged(path)
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(found, dict):
        raise _damaged(path)
    return found


def _part(file: BinaryIO, path: Path, part: dict[str, Any]) -> State:
    data = np.empty(part["bytes"], np.uint8)
    got = file.readinto(data.data)  # type: ignore[attr-defined]  # a file has it
    if got != data.nbytes or hashlib.sha256(data.data).hexdigest() != part["sha256"]:
        raise _damaged(path)
    return data


def _damaged(path: Path) -> RunnerError:
    return RunnerError(
        f"{path} is damaged: it is not as it was written; remove it, and let the conversation be read again"
    )
