"""The kinds of files that llama.cpp's tests/test-gguf.cpp makes by hand: those that a reader must refuse, and the rest.

Each has keys of every type, and where it has tensors, tensors of every type; the numbers are drawn anew here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from math import prod

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import NUMERIC, ValueType
from nemotron_gguf.tests.hostile.gguf.draft import text


@dataclass
class Handmade:
    """What a file is put together from; every part can be wrong."""

    lot: random.Random = field(default_factory=lambda: random.Random(7))
    magic: bytes = b"GGUF"
    version: int = 3
    n_tensors: int | None = None
    n_keys: int | None = None
    keys: list[bytes] = field(default_factory=list)
    infos: list[bytes] = field(default_factory=list)
    alignment: int = 32
    data: int = 0

    def encode(self) -> bytes:
        n_tensors = len(self.infos) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.keys) if self.n_keys is None else self.n_keys
        out = self.magic + struct.pack("<IQQ", self.version, n_tensors, n_keys) + b"".join(self.keys + self.infos)
        return out + bytes(-len(out) % self.alignment) + bytes(index % 256 for index in range(self.data))


def with_keys(
    spoil: Callable[[int, str], str] = lambda _, name: name,
    kind: int | None = None,
    size: int | None = None,
    alignment: tuple[int, int] | None = None,
) -> Handmade:
    """Keys of every type and arrays of every type, of random bytes."""
    made = Handmade()
    numbers, lot = count(), made.lot
    for value in (*ValueType, *ValueType):
        for item in (None,) if value is not ValueType.ARRAY else (i for i in ValueType if i is not ValueType.ARRAY):
            index = next(numbers)
            name = text(spoil(index, f"my_key_{index}"))
            name = name if size is None else struct.pack("<Q", size) + name[8:]
            number = value if kind is None else kind
            made.keys.append(name + struct.pack("<I", number) + _payload(value if kind is None else None, item, lot))
    if alignment is not None:
        made.keys.append(text("general.alignment") + struct.pack("<II", *alignment))
        made.alignment = alignment[1] if alignment[1] & (alignment[1] - 1) == 0 else 13
    return made


def _payload(value: ValueType | None, item: ValueType | None, lot: random.Random) -> bytes:
    if value is None:
        return b"\x55"
    if value is ValueType.STRING:
        return _random_string(lot, 63)
    if item is None:
        return lot.randbytes(NUMERIC[value].itemsize)
    n = lot.randrange(17)
    items = (
        _random_string(lot, 4) if item is ValueType.STRING else lot.randbytes(NUMERIC[item].itemsize) for _ in range(n)
    )
    return struct.pack("<IQ", item, n) + b"".join(items)


def _random_string(lot: random.Random, longest: int) -> bytes:
    raw = bytes(byte or 1 for byte in lot.randbytes(lot.randrange(longest + 1)))
    return struct.pack("<Q", len(raw)) + raw


def with_tensors(
    *,
    name: Callable[[int], str] = "my_tensor_{}".format,
    dims: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda dims: dims,
    n_dims: int | None = None,
    kind: int | None = None,
    offset: int | None = None,
    alignment: tuple[int, int] | None = None,
    step: int | None = None,
    only: int | None = None,
    data: int | None = None,
) -> Handmade:
    """Tensors of every type on top of the keys; `data` says how many bytes are missing or too many, None for no data.

    `dims` gets and gives dimensions innermost first, as they stand in the file.
    """
    made, at = with_keys(alignment=alignment), 0
    step = step or made.alignment
    for index, own in enumerate([*GGMLType, GGMLType.F64][:only]):  # at last one whose rows need no padding
        row, outer = (
            own.block_size * made.lot.randint(1, 10) * 4,
            made.lot.choices(range(1, 11), k=made.lot.randrange(4)),
        )
        shape = dims((row, *outer))
        number = own if kind is None else kind
        info = text(name(index)) + struct.pack("<I", n_dims or len(shape))
        info += b"".join(struct.pack("<Q", size % 2**64) for size in shape)
        made.infos.append(info + struct.pack("<IQ", number, at % 2**64 if offset is None else offset))
        elements, counted = prod(shape), own if number not in set(GGMLType) else GGMLType(number)
        nbytes = elements // counted.block_size * counted.type_size
        at += nbytes + -nbytes % step
    made.data = 0 if data is None else at + data if at < 1 << 24 else 32
    return made


F32, I8, I64 = GGMLType.F32, GGMLType.I8, GGMLType.I64
WRAPS = (4, 2**30 - 1, 2**30 + 1)  # in F32 16 bytes less than 2^64, which padding makes 0
TOO_BIG = (2**63 - 64,)

MUST_FAIL: dict[str, Callable[[], Handmade]] = {
    "header: bad magic": lambda: Handmade(magic=b"FUGG"),
    "header: version 0": lambda: Handmade(version=0),
    "header: version 1": lambda: Handmade(version=1),
    "header: a version to come": lambda: Handmade(version=4),
    "header: bad number of keys": lambda: Handmade(n_keys=2**64 - 1),
    "header: bad number of tensors": lambda: Handmade(n_tensors=2**64 - 1),
    "keys: bad size of a key": lambda: with_keys(size=2**64 - 1),
    "keys: an empty key": lambda: with_keys(lambda *_: ""),
    "keys: bad type": lambda: with_keys(kind=13),
    "keys: a key twice": lambda: with_keys(lambda index, _: f"my_key_{index // 2}"),
    "keys: bad alignment": lambda: with_keys(alignment=(ValueType.UINT32, 13)),
    "keys: alignment of another type": lambda: with_keys(alignment=(ValueType.INT32, 32)),
    "tensors: bad size of a name": lambda: with_tensors(name=lambda index: f"my_tensor_{index}" + "_long" * 12),
    "tensors: bad number of dimensions": lambda: with_tensors(n_dims=5),
    "tensors: bad shape": lambda: with_tensors(dims=lambda dims: tuple(-1 for _ in dims), only=1),
    "tensors: too many elements": lambda: with_tensors(dims=lambda _: (4 * (2**31 - 1),) * 2),
    "tensors: too many bytes": lambda: with_tensors(dims=lambda _: (1518500250,) * 2, kind=I64),
    "tensors: bytes that wrap when padded": lambda: with_tensors(dims=lambda _: WRAPS, only=1),
    "tensors: bad type": lambda: with_tensors(kind=43),
    "tensors: bad offset": lambda: with_tensors(offset=2**64 - 1),
    "tensors: a name twice": lambda: with_tensors(name=lambda _: "my_tensor"),
    "tensors: bad alignment": lambda: with_tensors(alignment=(ValueType.UINT32, 13)),
    "tensors: alignment of another kind": lambda: with_tensors(step=1),
    "data: not enough": lambda: with_tensors(data=-1),
    "data: bad alignment": lambda: with_tensors(alignment=(ValueType.UINT32, 13), data=0),
    "data: alignment of another kind": lambda: with_tensors(step=1, data=0),
    "data: size of memory overflows": lambda: with_tensors(dims=lambda _: TOO_BIG, kind=I8, only=2, data=0),
}
MUST_PASS: dict[str, Callable[[], Handmade]] = {
    "header: empty": Handmade,
    "keys: all types": with_keys,
    "tensors: no elements": lambda: with_tensors(dims=lambda dims: (dims[0], 0)),
    "tensors: all types": with_tensors,
    "tensors: alignment of its own": lambda: with_tensors(alignment=(ValueType.UINT32, 1)),
    "data: all types": lambda: with_tensors(data=0),
    "data: alignment of its own": lambda: with_tensors(alignment=(ValueType.UINT32, 1), data=0),
}
