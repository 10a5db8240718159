"""A safe reader of GGUF headers: nothing is allocated on a header's word alone, and everything is checked.

Sizes are computed in Python's unbounded integers and compared with the file before they are used, so a hostile header
can neither exhaust memory nor overflow. What passes here has sound geometry; whether the keys fit the tensors of an
architecture is for the runner to say.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nemotron_gguf.models.errors import GGUFError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import NUMERIC, Scalar, Value, ValueType
from nemotron_gguf.models.gguf_writer import DEFAULT_ALIGNMENT, MAGIC, pad

MAX_KEYS = 100_000
MAX_TENSORS = 10_000_000
MAX_STRING = 16 << 20  # bytes; the longest real one is a chat template of a few tens of kB
MAX_NAME = 63  # bytes; ggml's GGML_MAX_NAME less its terminator
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a file: shape outermost dimension first, `offset` absolute in the file, sizes in bytes."""

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    nbytes: int

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """What a GGUF file says of itself, checked against the bytes that are there."""

    path: Path
    version: int
    alignment: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    file_size: int

    def get(self, key: str) -> Scalar | list[Scalar] | None:
        """A key's value as a plain object, None where the file has no such key."""
        value = self.metadata.get(key)
        return None if value is None else value.plain()

    @property
    def architecture(self) -> str:
        """`general.architecture`, the empty string where it is missing or no string."""
        name = self.get("general.architecture")
        return name if isinstance(name, str) else ""


def read_gguf(path: str | Path) -> GGUFFile:
    """Read and check a file's header.

    Raises GGUFError, with what was found and what was expected, for anything that is not a sound, complete,
    little-endian GGUF of version 2 or 3.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise GGUFError(f"{path} is a folder, expected a GGUF file; `nemotron convert` makes one from a checkpoint")
        if path.exists() and not path.is_file():
            raise GGUFError(f"{path} is a pipe or a device, expected a GGUF file on a disk")
        size = path.stat().st_size
        with path.open("rb", buffering=1 << 20) as file:
            return _Reader(path, file, size).read()
    except OSError as error:
        raise GGUFError(f"cannot read {path}: {error.strerror or error}") from error


def read_gguf_header(file: BinaryIO, size: int, name: Path) -> GGUFFile:
    """As `read_gguf`, of a file of `size` bytes that is open somewhere, at its beginning; `name` is for messages."""
    return _Reader(name, file, size).read()


class _Reader:
    """A cursor over the header that never reads past the end of the file."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size, self.at = path, file, size, 0

    def fail(self, message: str) -> GGUFError:
        shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in message)
        return GGUFError(f"{self.path} is no sound GGUF file: {shown}")

    def take(self, count: int, what: str) -> bytes:
        if count > self.size - self.at:
            raise self.fail(
                f"it ends at byte {self.size} inside {what} ({count} bytes wanted at byte {self.at});"
                " it is truncated or damaged: download or convert it again"
            )
        data = self.file.read(count)
        if len(data) != count:
            raise self.fail(f"{what} could not be read in full: the file changed while it was being read")
        self.at += count
        return data

    def number(self, fmt: str, what: str) -> int:
        value: int = struct.unpack(fmt, self.take(struct.calcsize(fmt), what))[0]
        return value

    def string(self, what: str, limit: int = MAX_STRING) -> str:
        length = self.number("<Q", what)
        if length > limit:
            raise self.fail(f"{what} claims {length} bytes, at most {limit} expected")
        return self.take(length, what).decode("utf-8", "surrogateescape")

    def read(self) -> GGUFFile:
        version, n_tensors, n_keys = self.preamble()
        metadata = self.keys(n_keys)
        alignment = self.alignment(metadata)
        infos = [self.tensor(index) for index in range(n_tensors)]
        return GGUFFile(self.path, version, alignment, metadata, self.place(infos, alignment), self.size)

    def preamble(self) -> tuple[int, int, int]:
        """Version, number of tensors and number of keys."""
        magic = self.take(4, "the magic number")
        if magic != MAGIC:
            raise self.fail(f"it begins with {magic!r}, expected {MAGIC!r}")
        version = self.number("<I", "the version")
        if version in (0x02000000, 0x03000000):
            raise self.fail("it is big-endian; convert it on, or for, a little-endian machine")
        if version not in (2, 3):
            raise self.fail(f"it is of GGUF version {version}, this program reads 2 and 3")
        n_tensors, n_keys = self.number("<Q", "the tensor count"), self.number("<Q", "the key count")
        if n_keys > MAX_KEYS:
            raise self.fail(f"it claims {n_keys} keys, at most {MAX_KEYS} expected")
        if n_tensors > MAX_TENSORS:
            raise self.fail(f"it claims {n_tensors} tensors, at most {MAX_TENSORS} expected")
        return version, n_tensors, n_keys

    def keys(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for index in range(count):
            key = self.string(f"key {index}", limit=65535)
            if not key or key in metadata:
                raise self.fail(f"key {index} is {'empty' if not key else f'{key!r} a second time'}")
            metadata[key] = self.value(key)
        return metadata

    def value_type(self, key: str) -> ValueType:
        number = self.number("<I", f"the type of {key}")
        try:
            return ValueType(number)
        except ValueError:
            raise self.fail(f"{key} is of unknown value type {number}, 0 to 12 expected") from None

    def value(self, key: str) -> Value:
        kind = self.value_type(key)
        if kind is ValueType.STRING:
            return Value(kind, self.string(key))
        if kind is ValueType.ARRAY:
            return self.array(key)
        return Value(kind, self.numbers(kind, 1, key)[0].item())

    def array(self, key: str) -> Value:
        kind, count = self.value_type(key), self.number("<Q", f"the length of {key}")
        if kind is ValueType.ARRAY:
            raise self.fail(f"{key} is an array of arrays, which llama.cpp does not read")
        smallest = 8 if kind is ValueType.STRING else NUMERIC[kind].itemsize
        if count * smallest > self.size - self.at:
            raise self.fail(f"{key} claims {count} items, more than the file has bytes left for")
        if kind is ValueType.STRING:
            return Value(kind, [self.string(key) for _ in range(count)], is_array=True)
        return Value(kind, self.numbers(kind, count, key), is_array=True)

    def numbers(self, kind: ValueType, count: int, key: str) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        raw = self.take(count * NUMERIC[kind].itemsize, key)
        if kind is ValueType.BOOL and raw.strip(b"\x00\x01"):
            raise self.fail(f"{key} is a flag with a value other than 0 and 1")
        return np.frombuffer(raw, dtype=NUMERIC[kind])

    def alignment(self, metadata: Mapping[str, Value]) -> int:
        value = metadata.get("general.alignment")
        if value is None:
            return DEFAULT_ALIGNMENT
        found = value.plain()
        if value.type is not ValueType.UINT32 or not isinstance(found, int):
            raise self.fail("general.alignment is no 32-bit unsigned integer")
        if found.bit_count() != 1 or found > MAX_ALIGNMENT:
            raise self.fail(f"general.alignment is {found}, expected a power of two up to {MAX_ALIGNMENT}")
        return found

    def tensor(self, index: int) -> TensorInfo:
        """A tensor's entry, its offset still relative to the data section."""
        name = self.string(f"the name of tensor {index}", limit=MAX_NAME)
        n_dims = self.number("<I", f"the dimensions of {name}")
        if n_dims > MAX_DIMS:
            raise self.fail(f"tensor {name} has {n_dims} dimensions, at most {MAX_DIMS} expected")
        shape = struct.unpack(f"<{n_dims}Q", self.take(8 * n_dims, f"the shape of {name}"))[::-1]
        number = self.number("<I", f"the type of {name}")
        try:
            kind = GGMLType(number)
        except ValueError:
            raise self.fail(f"tensor {name} is of type {number}, which this program does not know") from None
        shape = shape or (1,)
        if shape[-1] % kind.block_size:
            raise self.fail(
                f"tensor {name} has rows of {shape[-1]} weights, no multiple of {kind.name}'s {kind.block_size}"
            )
        nbytes = kind.row_bytes(shape[-1]) * prod(shape[:-1])
        if nbytes == 0 or nbytes > self.size:
            raise self.fail(f"tensor {name} of shape {list(shape)} takes {nbytes} bytes, the file has {self.size}")
        return TensorInfo(name, shape, kind, self.number("<Q", f"the offset of {name}"), nbytes)

    def place(self, infos: list[TensorInfo], alignment: int) -> tuple[TensorInfo, ...]:
        """Check that the tensors follow each other without holes, as ggml demands, and make offsets absolute."""
        start, expected, seen = pad(self.at, alignment), 0, set()
        placed = []
        for info in infos:
            if info.name in seen:
                raise self.fail(f"tensor {info.name} is listed twice")
            if info.offset != expected:
                raise self.fail(f"tensor {info.name} is at offset {info.offset}, expected {expected}")
            if start + expected + info.nbytes > self.size:
                raise self.fail(
                    f"tensor {info.name} ends at byte {start + expected + info.nbytes}, the file at {self.size};"
                    " it is truncated: download or convert it again"
                )
            seen.add(info.name)
            placed.append(TensorInfo(info.name, info.shape, info.type, start + expected, info.nbytes))
            expected += pad(info.nbytes, alignment)
        return tuple(placed)
