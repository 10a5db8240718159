"""The typed values of a GGUF header: what a key holds, in memory and in bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Scalar: TypeAlias = bool | int | float | str


class ValueType(IntEnum):
    """Type of a metadata value, by the number that GGUF files carry (ggml/include/gguf.h)."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


NUMERIC: dict[ValueType, np.dtype[np.generic]] = {
    ValueType.UINT8: np.dtype("<u1"),
    ValueType.INT8: np.dtype("<i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of the header: a scalar, or an array of scalars of one type.

    `type` is that of the scalar or of the array's items. Arrays of numbers are numpy arrays, arrays of strings are
    lists. Strings keep bytes that are no UTF-8 as surrogates, so that a copied key stays the same to the byte.
    """

    type: ValueType
    data: Scalar | Sequence[str] | npt.NDArray[np.generic]
    is_array: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def encode(self) -> bytes:
        """The bytes that follow a key's name in a GGUF header, value type included."""
        if not self.is_array:
            return struct.pack("<I", self.type) + _encode_scalar(self.type, self.data)
        assert not isinstance(self.data, bool | int | float | str)
        head = struct.pack("<IIQ", ValueType.ARRAY, self.type, len(self.data))
        if self.type is ValueType.STRING:
            return head + b"".join(encode_string(str(item)) for item in self.data)
        return head + np.asarray(self.data, dtype=NUMERIC[self.type]).tobytes()

    def plain(self) -> Scalar | list[Scalar]:
        """The value as plain Python objects, for JSON."""
        if isinstance(self.data, np.ndarray):
            items: list[Scalar] = self.data.tolist()
            return items
        if isinstance(self.data, bool | int | float | str):
            return self.data
        return list(self.data)


def encode_string(text: str) -> bytes:
    """GGUF's string: a 64-bit length and the bytes."""
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _encode_scalar(kind: ValueType, data: object) -> bytes:
    if kind is ValueType.STRING:
        assert isinstance(data, str)
        return encode_string(data)
    return np.asarray(data, dtype=NUMERIC[kind]).tobytes()


def u32(value: int) -> Value:
    """A 32-bit unsigned integer, the usual type of counts and sizes."""
    return Value(ValueType.UINT32, value)


def f32(value: float) -> Value:
    """A 32-bit float, the usual type of epsilons and scales."""
    return Value(ValueType.FLOAT32, value)


def boolean(value: bool) -> Value:
    """A flag."""
    return Value(ValueType.BOOL, value)


def string(value: str) -> Value:
    """A text."""
    return Value(ValueType.STRING, value)


def array(kind: ValueType, items: Sequence[Scalar] | npt.NDArray[np.generic]) -> Value:
    """An array of items of one type."""
    if kind is ValueType.STRING:
        return Value(kind, [str(item) for item in items], is_array=True)
    return Value(kind, np.asarray(items, dtype=NUMERIC[kind]), is_array=True)
