"""GGUF files made to mislead: each ends in one GGUFError, quickly and without the memory that the file asks for."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from nemotron_gguf.models.errors import GGUFError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import ValueType, array, encode_string, string, u32
from nemotron_gguf.models.gguf_writer import encode_header


def preamble(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def key(name: str, kind: int, payload: bytes) -> bytes:
    return encode_string(name) + struct.pack("<I", kind) + payload


def info(name: str, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return encode_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def body(data: bytes, extra: int = 4096) -> bytes:
    return data + bytes(-len(data) % 32) + bytes(extra)


CASES: dict[str, bytes] = {
    "empty": b"",
    "short magic": b"GG",
    "wrong magic": b"GGML" + bytes(60),
    "zip": b"PK\x03\x04" + bytes(60),
    "version 0": preamble(version=0),
    "version 1": preamble(version=1),
    "version 4": preamble(version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "2^63 keys": preamble(keys=2**63),
    "a million keys": preamble(keys=10**6),
    "2^64-1 tensors": preamble(tensors=2**64 - 1),
    "10^9 tensors": preamble(tensors=10**9),
    "a promised key": preamble(keys=1),
    "a promised tensor": preamble(tensors=1),
    "key of 2^60 bytes": preamble(keys=1) + struct.pack("<Q", 2**60) + bytes(64),
    "escape codes in a name": body(preamble(tensors=1) + info("\x1b[2J\n", (0,))),
    "empty key": preamble(keys=1) + key("", 4, bytes(4)),
    "duplicate key": preamble(keys=2) + key("a", 4, bytes(4)) * 2,
    "value type 13": preamble(keys=1) + key("a", 13, bytes(8)),
    "value type 2^31": preamble(keys=1) + key("a", 2**31, bytes(8)),
    "string of 2^62 bytes": preamble(keys=1) + key("a", 8, struct.pack("<Q", 2**62)) + bytes(64),
    "string of 17 MiB": preamble(keys=1) + key("a", 8, struct.pack("<Q", 17 << 20)) + bytes(17 << 20),
    "array of 2^61 numbers": preamble(keys=1) + key("a", 9, struct.pack("<IQ", 4, 2**61)) + bytes(64),
    "array of 2^61 strings": preamble(keys=1) + key("a", 9, struct.pack("<IQ", 8, 2**61)) + bytes(64),
    "array of arrays": preamble(keys=1) + key("a", 9, struct.pack("<IQ", 9, 1)) + bytes(64),
    "array of unknown": preamble(keys=1) + key("a", 9, struct.pack("<IQ", 77, 1)) + bytes(64),
    "flag of 2": preamble(keys=1) + key("a", 7, b"\x02"),
    "alignment 0": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 0)),
    "alignment 3": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 3)),
    "alignment 2^31": preamble(keys=1) + key("general.alignment", 4, struct.pack("<I", 2**31)),
    "alignment as text": preamble(keys=1) + key("general.alignment", 8, encode_string("32")),
    "name of 64 bytes": body(preamble(tensors=1) + info("x" * 64, (4,))),
    "five dimensions": body(preamble(tensors=1) + info("x", (1, 1, 1, 1, 1))),
    "2^32 dimensions": preamble(tensors=1) + encode_string("x") + struct.pack("<I", 2**32 - 1) + bytes(64),
    "type 4": body(preamble(tensors=1) + info("x", (4,), kind=4)),
    "type 999": body(preamble(tensors=1) + info("x", (4,), kind=999)),
    "no elements": body(preamble(tensors=1) + info("x", (0, 4))),
    "2^32 x 2^32 in I8": body(preamble(tensors=1) + info("x", (2**32, 2**32), kind=24)),
    "2^20 x 2^20 x 2^20 x 16 in F32": body(preamble(tensors=1) + info("x", (2**20, 2**20, 2**20, 16))),
    "2^63 in F32": body(preamble(tensors=1) + info("x", (2**63,))),
    "row no multiple": body(preamble(tensors=1) + info("x", (100, 2), kind=12)),
    "past the end": body(preamble(tensors=1) + info("x", (4096,))),
    "offset of 7": body(preamble(tensors=1) + info("x", (4,), offset=7)),
    "offset of 2^64-32": body(preamble(tensors=1) + info("x", (4,), offset=2**64 - 32)),
    "overlap": body(preamble(tensors=2) + info("x", (64,)) + info("y", (64,), offset=32)),
    "hole": body(preamble(tensors=2) + info("x", (8,)) + info("y", (8,), offset=64)),
    "duplicate tensor": body(preamble(tensors=2) + info("x", (8,)) + info("x", (8,), offset=32)),
    "43 bytes": preamble(keys=1) + struct.pack("<Q", 3) + b"abc" + struct.pack("<I", 9) + bytes(4),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(CASES[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GGUFError) as caught:
        read_gguf(path)
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def sound() -> bytes:
    metadata = {
        "general.architecture": string("llama"),
        "llama.block_count": u32(1),
        "tokenizer.ggml.tokens": array(ValueType.STRING, ["a", "b", "c"]),
    }
    header = encode_header(metadata, [("x", (3, 32), GGMLType.Q8_0), ("y", (5,), GGMLType.F32)])
    return header.data.ljust(header.file_size, b"\0")


def test_the_sound_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound())
    assert [tensor.name for tensor in read_gguf(path).tensors] == ["x", "y"]


def test_truncated_at_any_byte(tmp_path: Path) -> None:
    data, path = sound(), tmp_path / "cut.gguf"
    needed = len(data) - 12  # the last tensor's 20 bytes are padded to 32
    for length in range(needed):
        path.write_bytes(data[:length])
        with pytest.raises(GGUFError):
            read_gguf(path)
    path.write_bytes(data[:needed])
    assert len(read_gguf(path).tensors) == 2


def test_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    data, path = sound(), tmp_path / "changed.gguf"
    for at in range(len(data)):
        for value in (0x00, 0x7F, 0xFF, data[at] ^ 1):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            try:
                read_gguf(path)
            except GGUFError as error:
                assert "\n" not in str(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(GGUFError, match="pipe"):
        read_gguf(tmp_path / "pipe.gguf")


@pytest.mark.parametrize(
    ("make", "word"),
    [(lambda _: None, "No such file"), (lambda path: path.mkdir(), "folder")],
    ids=["missing", "folder"],
)
def test_no_file_at_all(tmp_path: Path, make: Callable[[Path], None], word: str) -> None:
    path = tmp_path / "absent.gguf"
    make(path)
    with pytest.raises(GGUFError, match=word):
        read_gguf(path)
