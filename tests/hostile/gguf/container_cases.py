"""Files that are no sound container, or claim what they have not: each by its bytes."""

from __future__ import annotations

import struct

from nemotron_gguf.models.gguf_values import ValueType
from nemotron_gguf.tests.hostile.gguf.draft import text


def preamble(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def key(name: str, kind: int, payload: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + payload


def info(name: str, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """A tensor's entry; dimensions as they stand in the file, innermost first."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def body(data: bytes, extra: int = 4096) -> bytes:
    return data + bytes(-len(data) % 32) + bytes(extra)


def one(*dims: int, kind: int = 0, offset: int = 0, name: str = "x") -> bytes:
    """A file of one tensor."""
    return body(preamble(tensors=1) + info(name, dims, kind, offset))


def array(kind: int, count: int, payload: bytes = bytes(64)) -> bytes:
    """A file of one key, an array."""
    return preamble(keys=1) + key("a", ValueType.ARRAY, struct.pack("<IQ", kind, count)) + payload


F32, F16, I8, I64, F64 = 0, 1, 24, 27, 28

CASES: dict[str, bytes] = {
    "empty": b"",
    "short magic": b"GG",
    "wrong magic": b"GGML" + bytes(60),
    "older magic": b"ggjt" + struct.pack("<I", 3) + bytes(60),
    "zip": b"PK\x03\x04" + bytes(60),
    "safetensors": struct.pack("<Q", 2) + b"{}" + bytes(60),
    "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "a pointer of git": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "zeros": bytes(4096),
    "version 0": preamble(version=0),
    "version 1": preamble(version=1),
    "version 4": preamble(version=4),
    "version 2^32-1": preamble(version=2**32 - 1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "100001 keys": preamble(keys=100_001) + bytes(1 << 20),
    "2^63 keys": preamble(keys=2**63),
    "a million keys": preamble(keys=10**6),
    "2^64-1 tensors": preamble(tensors=2**64 - 1),
    "10^9 tensors": preamble(tensors=10**9),
    "10^7+1 tensors": preamble(tensors=10**7 + 1) + bytes(1 << 20),
    "a promised key": preamble(keys=1),
    "a promised tensor": preamble(tensors=1),
    "key of 2^60 bytes": preamble(keys=1) + struct.pack("<Q", 2**60) + bytes(64),
    "key of 65536 bytes": preamble(keys=1) + key("k" * 65536, 4, bytes(4)),
    "empty key": preamble(keys=1) + key("", 4, bytes(4)),
    "key with a zero byte": preamble(keys=1) + key("general.name\0x", 4, bytes(4)),
    "key with escape codes": preamble(keys=1) + key("\x1b[2J", 4, bytes(4)),
    "duplicate key": preamble(keys=2) + key("a", 4, bytes(4)) * 2,
    "value type 13": preamble(keys=1) + key("a", 13, bytes(8)),
    "value type 2^31": preamble(keys=1) + key("a", 2**31, bytes(8)),
    "string of 2^62 bytes": preamble(keys=1) + key("a", 8, struct.pack("<Q", 2**62)) + bytes(64),
    "string of 2^64-1 bytes": preamble(keys=1) + key("a", 8, struct.pack("<Q", 2**64 - 1)) + bytes(64),
    "string of 17 MiB": preamble(keys=1) + key("a", 8, struct.pack("<Q", 17 << 20)) + bytes(17 << 20),
    "array of 2^61 numbers": array(4, 2**61),
    "array of 2^64-1 bytes": array(0, 2**64 - 1),
    "array of 2^61 strings": array(8, 2**61),
    "array of 3 million flags": array(7, 3_000_000, bytes(3_000_000)),
    "array of 3 million empty strings": array(8, 3_000_000, bytes(24_000_000)),
    "array of arrays": array(9, 1),
    "arrays of arrays of arrays": array(9, 1, struct.pack("<IQ", 9, 1) * 100_000),
    "array of unknown": array(77, 1),
    "array of a long string": array(8, 1, struct.pack("<Q", 17 << 20) + bytes(17 << 20)),
    "array cut in a string": array(8, 2, struct.pack("<Q", 3) + b"abc" + struct.pack("<Q", 99) + b"abc"),
    "alignment 0": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 0)),
    "alignment 3": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 3)),
    "alignment 2^21": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 2**21)),
    "alignment 2^30": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 2**30)),
    "alignment 2^31": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 2**31)),
    "alignment as text": preamble(keys=1) + key("general.alignment", 8, text("32")),
    "alignment of 64 bits": preamble(keys=1) + key("general.alignment", 10, struct.pack("<Q", 32)),
    "alignment as a list": preamble(keys=1) + key("general.alignment", 9, struct.pack("<IQI", 4, 1, 32)),
    "alignment as a float": preamble(keys=1) + key("general.alignment", 6, struct.pack("<f", 32.0)),
    "tensor without a name": one(4, name=""),
    "tensor with escape codes": one(4, name="\x1b[2J\n"),
    "tensor with a zero byte": one(4, name="x\0y"),
    "name of 64 bytes": one(4, name="x" * 64),
    "name of 2^63 bytes": preamble(tensors=1) + struct.pack("<Q", 2**63) + bytes(4096),
    "five dimensions": one(1, 1, 1, 1, 1),
    "2^32 dimensions": preamble(tensors=1) + text("x") + struct.pack("<I", 2**32 - 1) + bytes(64),
    "type 4": one(4, kind=4),
    "type 5": one(4, kind=5),
    "type 31": one(4, kind=31),
    "type 43": one(4, kind=43),
    "type 999": one(4, kind=999),
    "type 2^32-1": one(4, kind=2**32 - 1),
    "2^32 x 2^32 in I8": one(2**32, 2**32, kind=I8),
    "2^20 x 2^20 x 2^20 x 16 in F32": one(2**20, 2**20, 2**20, 16),
    "2^16 four times in F32": one(2**16, 2**16, 2**16, 2**16),
    "2^62 in F64": one(2**62, kind=F64),
    "2^63 in F32": one(2**63),
    "2^63-1 in I8": one(2**63 - 1, kind=I8),
    "2^64-1 in F32": one(2**64 - 1),
    "2^40 x 2^40 x 0": one(2**40, 2**40, 0),
    "row no multiple": one(100, 2, kind=12),
    "row of half a block": one(16, kind=8),
    "past the end": one(4096),
    "one row past the end": one(32, 33),
    "offset of 7": one(4, offset=7),
    "offset of 32": one(4, offset=32),
    "offset of 2^63": one(4, offset=2**63),
    "offset of 2^64-32": one(4, offset=2**64 - 32),
    "overlap": body(preamble(tensors=2) + info("x", (64,)) + info("y", (64,), offset=32)),
    "the same bytes twice": body(preamble(tensors=2) + info("x", (64,)) + info("y", (64,))),
    "hole": body(preamble(tensors=2) + info("x", (8,)) + info("y", (8,), offset=64)),
    "out of order": body(preamble(tensors=2) + info("x", (8,), offset=32) + info("y", (8,))),
    "duplicate tensor": body(preamble(tensors=2) + info("x", (8,)) + info("x", (8,), offset=32)),
    "duplicate of no elements": body(preamble(tensors=2) + info("x", (0,)) * 2),
    "43 bytes": preamble(keys=1) + struct.pack("<Q", 3) + b"abc" + struct.pack("<I", 9) + bytes(4),
}
# Weaknesses of llama.cpp and its kin that were published, each as the file that showed it.
ADVISORIES: dict[str, bytes] = {
    "CVE-2024-21836 (TALOS-2024-1915): number of tensors times their size": preamble(tensors=2**58),
    "CVE-2024-23605 (TALOS-2024-1916): number of keys times their size": preamble(keys=2**59),
    "CVE-2024-23496 (TALOS-2024-1913): length of a string plus one": (
        preamble(keys=1) + struct.pack("<Q", 2**64 - 1) + bytes(256)
    ),
    "CVE-2024-21825 (TALOS-2024-1912): array of strings": array(8, 2**60 + 1),
    "CVE-2024-21825: array of numbers": array(10, 2**61 + 1),
    "CVE-2024-21802 (TALOS-2024-1914): more dimensions than there is room for": one(*range(1, 9)),
    "CVE-2025-49847 (GHSA-8wwf-w4qm-gpqr): token of more than 2^31 bytes": (
        array(8, 1, struct.pack("<Q", 2**31 + 10) + bytes(256))
    ),
    "CVE-2025-53630 (GHSA-vgg9-87g3-85w8): sizes of tensors that add up past 2^64": body(
        preamble(tensors=2) + info("x", (2**63 - 64,), I8) + info("y", (2**63 - 64,), I8, 2**63 - 64)
    ),
    "CVE-2025-53630: three that come around to nothing": body(
        preamble(tensors=3) + info("x", (2**62, 2), I8) + info("y", (2**62, 2), I8, 2**63) + info("z", (64,), F32, 0)
    ),
    "CVE-2026-27940 (GHSA-3p4r-fq3f-q74v): memory for the data wraps": one(2**63 - 32, kind=I8),
    "CVE-2026-33298 (GHSA-96jg-mvhq-q7q7): bytes of a tensor wrap": one(2**30, 2**30, 4, kind=F32),
    "CVE-2026-33298: bytes wrap to a few": one(2**31, 2**31 - 1, kind=F64),
    "CVE-2026-7482: a tensor larger than the file": one(2**24, kind=F16),
    "oss-security 2026: an alignment that wraps": (
        preamble(tensors=1, keys=1) + key("general.alignment", 4, struct.pack("<I", 2**31)) + info("x", (4,))
    ),
    "gguf 0.19 for Python: reads without end": preamble(keys=1) + text("abc") + struct.pack("<I", 9) + bytes(4),
}
