"""A safe reader of safetensors shards: the header is checked against the file, rows are read on demand.

Nothing is mapped into memory (mapped pages count as resident) and nothing is allocated on a header's word alone. The
format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.convert.source.byte_source import ByteSource
from nemotron_gguf.convert.source.json_files import parse_object
from nemotron_gguf.models.ggml import GGMLType

MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
FIRST_READ = 256 << 10  # bytes that hold most headers whole: over a network a second request is what takes time
MAX_DIMS = 8  # no weight of the family has more than three

# Bits of one element, by the names of the format's reference implementation.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip

STORAGE = {"F32": GGMLType.F32, "F16": GGMLType.F16, "BF16": GGMLType.BF16}


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor as a shard's header gives it: `begin` is absolute in the file, sizes in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    nbytes: int

    @property
    def n_elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)


class Shard:
    """A safetensors file whose header is read and checked; `read` may be called by several threads at once."""

    def __init__(self, source: ByteSource) -> None:
        """Read the header. Raises ConvertError, closing the source, where it is no sound, complete safetensors file."""
        self.source = source
        self._begin = bytearray()  # what came with the header, so that no byte is asked for twice
        try:
            self.entries: Mapping[str, Entry] = self._header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back; reading afterwards is an error."""
        self._begin = bytearray()
        self.source.close()

    def read(self, offset: int, size: int) -> bytearray:
        """Exactly `size` bytes from an absolute offset, in a buffer of its own; errors as of `ByteSource.read`."""
        known = self._begin[offset : offset + size]
        if not known:
            return self.source.read(offset, size)
        return known if len(known) == size else known + self.source.read(offset + len(known), size - len(known))

    def identity(self) -> dict[str, object]:
        """What binds a run to this file: its source's identity and the SHA-256 of its header."""
        return {**self.source.identity(), "header": self._sha256}

    def _fail(self, message: str) -> ConvertError:
        return ConvertError(f"{self.source.name} is no sound safetensors file: {message}")

    def _header(self) -> dict[str, Entry]:
        if self.source.size < 8:
            raise self._fail(f"it has {self.source.size} bytes, at least 8 expected; download it again")
        begin = self._begin = self.read(0, min(self.source.size, FIRST_READ))
        length: int = struct.unpack("<Q", begin[:8])[0]
        if length > MAX_HEADER:
            raise self._fail(f"its header claims {length} bytes, at most {MAX_HEADER} expected")
        if length > self.source.size - 8:
            raise self._fail(
                f"its header claims {length} bytes, the file has {self.source.size - 8} left; download it again"
            )
        raw = bytes(begin[8 : 8 + length])
        if len(raw) < length:
            raw += self.read(8 + len(raw), length - len(raw))
        self._sha256 = hashlib.sha256(raw).hexdigest()
        if raw[:1] != b"{":
            raise self._fail(f"its header begins with {raw[:1]!r}, expected b'{{'")
        try:
            header = parse_object(raw.decode("utf-8"), f"the header of {self.source.name}")
        except UnicodeDecodeError:
            raise self._fail("its header is no UTF-8") from None
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self._fail("its __metadata__ is no object of strings")
        return self._place([self._entry(name, value, 8 + length) for name, value in header.items()], 8 + length)

    def _entry(self, name: str, value: object, start: int) -> Entry:
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
            raise self._fail(f"the entry of {name!r} has not exactly dtype, shape and data_offsets")
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or dtype not in BITS:
            raise self._fail(f"{name!r} is of dtype {dtype!r}, expected one of {', '.join(BITS)}")
        if not _sizes(shape) or len(shape) > MAX_DIMS:
            raise self._fail(f"the shape of {name!r} is {_short(shape)}, expected up to {MAX_DIMS} sizes")
        if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self._fail(f"the data_offsets of {name!r} are {_short(offsets)}, expected a begin and an end")
        bits = prod(shape) * BITS[dtype]
        if bits != 8 * (offsets[1] - offsets[0]):
            raise self._fail(
                f"{name!r} of shape {shape} and dtype {dtype} takes {-(-bits // 8)} bytes,"
                f" its data_offsets hold {offsets[1] - offsets[0]}"
            )
        return Entry(name, dtype, tuple(shape), start + offsets[0], offsets[1] - offsets[0])

    def _place(self, entries: list[Entry], start: int) -> dict[str, Entry]:
        """Check that the tensors fill the rest of the file, without holes and without overlap."""
        end = start
        for entry in sorted(entries, key=lambda entry: (entry.begin, entry.nbytes)):
            if entry.begin != end:
                what = "a hole before" if entry.begin > end else "an overlap at"
                raise self._fail(f"{what} {entry.name!r}: it begins at byte {entry.begin}, expected {end}")
            end += entry.nbytes
        if end != self.source.size:
            what = (
                "it is truncated: download it again"
                if end > self.source.size
                else "it has bytes that belong to no tensor"
            )
            raise self._fail(f"its tensors end at byte {end}, the file at {self.source.size}; {what}")
        return {entry.name: entry for entry in entries}


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True)
class TensorRows:
    """A tensor of a shard seen as `n_rows` rows of `n_per_row` weights (a RowSource)."""

    shard: Shard
    entry: Entry
    type: GGMLType
    n_rows: int
    n_per_row: int

    def __post_init__(self) -> None:
        assert self.n_rows * self.n_per_row == self.entry.n_elements, self.entry.name

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` up to `last` as `(last - first, row bytes) uint8`; ConvertError on a short read."""
        row_bytes = self.type.row_bytes(self.n_per_row)
        data = self.shard.read(self.entry.begin + first * row_bytes, (last - first) * row_bytes)
        return np.frombuffer(data, dtype=np.uint8).reshape(last - first, row_bytes)
