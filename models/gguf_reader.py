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
from nemotron_gguf.models.gguf_cursor import Cursor
from nemotron_gguf.models.gguf_values import NUMERIC, Scalar, Value, ValueType
from nemotron_gguf.models.gguf_writer import DEFAULT_ALIGNMENT, MAGIC, pad

MAX_KEYS = 100_000
MAX_KEY = 65535  # bytes of a key's name
MAX_ITEMS = 2_000_000  # of all arrays together; a vocabulary of 262,144 tokens has some 1.6 million, merges included
MAX_TENSORS = 10_000_000
MAX_TENSOR_LIST = 4 << 20  # bytes; some 90 a tensor, of which the largest models have a few thousand
MAX_NAME = 63  # bytes; ggml's GGML_MAX_NAME less its terminator
MAX_DIMS = 4
MAX_SIZE = 2**63 - 1  # weights or bytes of a tensor, which ggml counts in 64 bits with a sign
MAX_ALIGNMENT = 1 << 20  # bytes
_ENTRIES = [struct.Struct(f"<{n_dims}QIQ") for n_dims in range(MAX_DIMS + 1)]  # sizes, type, offset
_TYPES = {int(kind): (kind, kind.block_size, kind.type_size) for kind in GGMLType}


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
    is_header_alone: bool = False
    """Whether the file ends where the bytes of its tensors should begin."""

    def get(self, key: str) -> Scalar | list[Scalar] | None:
        """A key's value as a plain object, None where the file has no such key."""
        value = self.metadata.get(key)
        return None if value is None else value.plain()

    @property
    def architecture(self) -> str:
        """`general.architecture`, the empty string where it is missing or no string."""
        name = self.get("general.architecture")
        return name if isinstance(name, str) else ""


def read_gguf(path: str | Path, *, header_alone: bool = False) -> GGUFFile:
    """Read and check a file's header.

    With `header_alone` a file is accepted, too, that has a sound header and not one byte of its tensors; nobody may
    read weights of it. Raises GGUFError, with what was found and what was expected, for anything that is not a sound,
    complete, little-endian GGUF of version 2 or 3.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise GGUFError(f"{path} is a folder, expected a GGUF file; `nemotron convert` makes one from a checkpoint")
        if path.exists() and not path.is_file():
            raise GGUFError(f"{path} is a pipe or a device, expected a GGUF file on a disk")
        size = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            return _Reader(Cursor(path, file, size), header_alone).read()
    except OSError as error:
        raise GGUFError(f"cannot read {path}: {error.strerror or error}") from error


def read_gguf_header(file: BinaryIO, size: int, name: Path) -> GGUFFile:
    """As `read_gguf`, of a file of `size` bytes that is open somewhere, at its beginning; `name` is for messages."""
    return _Reader(Cursor(name, file, size), header_alone=False).read()


class _Reader:
    """What is where in a header."""

    def __init__(self, cursor: Cursor, header_alone: bool) -> None:
        self.cursor, self.header_alone = cursor, header_alone
        self.fail = cursor.fail
        self.n_items = 0  # of the arrays so far

    def read(self) -> GGUFFile:
        cursor = self.cursor
        version, n_tensors, n_keys = self.preamble()
        metadata = self.keys(n_keys)
        alignment = self.alignment(metadata)
        tensors = self.tensors(n_tensors, alignment)
        start = pad(cursor.at, alignment)  # where the bytes of the tensors begin
        end = tensors[-1].offset + tensors[-1].nbytes if tensors else 0
        is_header_alone = self.header_alone and end > 0 and cursor.size <= start
        for tensor in tensors if start + end > cursor.size and not is_header_alone else ():
            if start + tensor.offset + tensor.nbytes > cursor.size:
                raise self.fail(
                    f"tensor {tensor.name} ends at byte {start + tensor.offset + tensor.nbytes}, the file at"
                    f" {cursor.size}; it is truncated: download or convert it again"
                )
        placed = tuple(TensorInfo(t.name, t.shape, t.type, start + t.offset, t.nbytes) for t in tensors)
        return GGUFFile(cursor.path, version, alignment, metadata, placed, cursor.size, is_header_alone)

    def preamble(self) -> tuple[int, int, int]:
        """Version, number of tensors and number of keys."""
        magic = self.cursor.take(4, "the magic number")
        if magic != MAGIC:
            raise self.fail(f"it begins with {magic!r}, expected {MAGIC!r}")
        version = self.cursor.u32("the version")
        if version in (0x02000000, 0x03000000):
            raise self.fail("it is big-endian; convert it on, or for, a little-endian machine")
        if version not in (2, 3):
            raise self.fail(f"it is of GGUF version {version}, this program reads 2 and 3")
        n_tensors, n_keys = self.cursor.u64("the tensor count"), self.cursor.u64("the key count")
        if n_keys > MAX_KEYS:
            raise self.fail(f"it claims {n_keys} keys, at most {MAX_KEYS} expected")
        if n_tensors > MAX_TENSORS:
            raise self.fail(f"it claims {n_tensors} tensors, at most {MAX_TENSORS} expected")
        return version, n_tensors, n_keys

    def name(self, what: str, limit: int) -> str:
        """A name of a key or a tensor; ggml would cut it at a zero byte."""
        name = self.cursor.string(what, limit)
        if not name or min(name) < " ":
            raise self.fail(f"{what} is {'empty' if not name else f'{name!r}, which has control characters'}")
        return name

    def keys(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for index in range(count):
            key = self.name(f"key {index}", MAX_KEY)
            if key in metadata:
                raise self.fail(f"key {index} is {key!r} a second time")
            metadata[key] = self.value(key)
        return metadata

    def value_type(self, key: str) -> ValueType:
        number = self.cursor.u32(f"the type of {key}")
        try:
            return ValueType(number)
        except ValueError:
            raise self.fail(f"{key} is of unknown value type {number}, 0 to 12 expected") from None

    def value(self, key: str) -> Value:
        kind = self.value_type(key)
        if kind is ValueType.STRING:
            return Value(kind, self.cursor.string(key))
        if kind is ValueType.ARRAY:
            return self.array(key)
        return Value(kind, self.numbers(kind, 1, key)[0].item())

    def array(self, key: str) -> Value:
        kind, count = self.value_type(key), self.cursor.u64(f"the length of {key}")
        if kind is ValueType.ARRAY:
            raise self.fail(f"{key} is an array of arrays, which llama.cpp does not read")
        smallest = 8 if kind is ValueType.STRING else NUMERIC[kind].itemsize
        if count * smallest > self.cursor.size - self.cursor.at:
            raise self.fail(f"{key} claims {count} items, more than the file has bytes left for")
        self.n_items += count
        if self.n_items > MAX_ITEMS:
            raise self.fail(f"its arrays, up to {key}, have {self.n_items} items, at most {MAX_ITEMS} expected")
        if kind is ValueType.STRING:
            return Value(kind, self.cursor.strings(count, key), is_array=True)
        return Value(kind, self.numbers(kind, count, key), is_array=True)

    def numbers(self, kind: ValueType, count: int, key: str) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        raw = self.cursor.take(count * NUMERIC[kind].itemsize, key)
        if kind is ValueType.BOOL:  # any byte but zero is true, as for ggml
            return np.asarray(np.frombuffer(raw, dtype=np.uint8) != 0)
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

    def tensors(self, count: int, alignment: int) -> list[TensorInfo]:
        """The list of tensors, offsets relative to the data; they follow each other without holes, as ggml demands."""
        tensors: list[TensorInfo] = []
        begin, expected, seen = self.cursor.at, 0, set[str]()
        for index in range(count):
            tensor = self.tensor(index)
            if tensor.name in seen:
                raise self.fail(f"tensor {tensor.name} is listed twice")
            if tensor.offset != expected:
                raise self.fail(f"tensor {tensor.name} is at offset {tensor.offset}, expected {expected}")
            if self.cursor.at - begin > MAX_TENSOR_LIST:
                raise self.fail(f"its list of tensors goes on after {MAX_TENSOR_LIST} bytes, at {tensor.name}")
            expected += pad(tensor.nbytes, alignment)
            if expected > MAX_SIZE:
                raise self.fail(f"its tensors, up to {tensor.name}, take {expected} bytes, at most {MAX_SIZE} expected")
            seen.add(tensor.name)
            tensors.append(tensor)
        return tensors

    def tensor(self, index: int) -> TensorInfo:
        """A tensor's entry, its offset relative to the data."""
        name = self.name(f"the name of tensor {index}", MAX_NAME)
        entry = f"the entry of tensor {name}"
        n_dims = self.cursor.u32(entry)
        if n_dims > MAX_DIMS:
            raise self.fail(f"tensor {name} has {n_dims} dimensions, at most {MAX_DIMS} expected")
        *dims, number, offset = _ENTRIES[n_dims].unpack(self.cursor.take(_ENTRIES[n_dims].size, entry))
        shape = tuple(dims[::-1]) or (1,)
        if number not in _TYPES:
            raise self.fail(f"tensor {name} is of type {number}, which this program does not know")
        kind, block_size, type_size = _TYPES[number]
        # as if no dimension were 0: ggml multiplies before it sees one
        largest = prod(dims) or prod(max(size, 1) for size in dims)
        if largest > MAX_SIZE or largest // block_size * type_size > MAX_SIZE:
            raise self.fail(f"tensor {name} of shape {list(shape)} in {kind.name} has more than 2^63 weights or bytes")
        if shape[-1] % block_size:
            raise self.fail(f"tensor {name} has rows of {shape[-1]} weights, no multiple of {kind.name}'s {block_size}")
        return TensorInfo(name, shape, kind, offset, prod(dims) // block_size * type_size)
