"""Our header's writer and reader against each other's promise and against gguf-py, which wrote none of it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, f32, string, u32
from nemotron_gguf.models.gguf_writer import encode_header

METADATA = {
    "general.architecture": string("nemotron_h_moe"),
    "general.name": string("Nemotron 小"),
    "a.count": u32(7),
    "a.scale": f32(2.5),
    "a.flag": boolean(True),
    "a.signed": Value(ValueType.INT64, -(2**40)),
    "a.byte": Value(ValueType.UINT8, 255),
    "a.double": Value(ValueType.FLOAT64, 1e-300),
    "tokenizer.ggml.tokens": array(ValueType.STRING, ["a", "ŋ", ""]),
    "tokenizer.ggml.token_type": array(ValueType.INT32, [1, 2, 3]),
    "a.flags": array(ValueType.BOOL, [True, False]),
    "a.empty": array(ValueType.STRING, []),
}
TENSORS = [
    ("token_embd.weight", (5, 96), GGMLType.F16),
    ("blk.0.ffn_up_exps.weight", (3, 4, 64), GGMLType.Q8_0),
    ("blk.0.ssm_a", (7, 1), GGMLType.F32),
]


def write(path: Path, alignment: int = 32) -> list[bytes]:
    metadata = dict(METADATA)
    if alignment != 32:
        metadata["general.alignment"] = u32(alignment)
    header = encode_header(metadata, TENSORS, alignment)
    rng = np.random.default_rng(1)
    data = bytearray(header.data.ljust(header.file_size, b"\0"))
    payloads = []
    for (_, shape, kind), offset in zip(TENSORS, header.offsets, strict=True):
        payload = rng.bytes(kind.row_bytes(shape[-1]) * int(np.prod(shape[:-1])))
        data[offset : offset + len(payload)] = payload
        payloads.append(payload)
    path.write_bytes(data)
    return payloads


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_what_was_written_is_read_back(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "a.gguf"
    payloads = write(path, alignment)
    file = read_gguf(path)
    assert {key: value for key, value in file.metadata.items() if key != "general.alignment"} == METADATA
    assert [(t.name, t.shape, t.type) for t in file.tensors] == TENSORS
    raw = path.read_bytes()
    assert [raw[t.offset : t.offset + t.nbytes] for t in file.tensors] == payloads
    assert all(t.offset % alignment == 0 for t in file.tensors)


def test_gguf_py_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    payloads = write(path)
    reference = gguf.GGUFReader(path)
    for key, value in METADATA.items():
        contents = reference.fields[key].contents()
        assert contents == (pytest.approx(value.plain()) if value.type is ValueType.FLOAT32 else value.plain()), key
    for tensor, (name, shape, kind), payload in zip(reference.tensors, TENSORS, payloads, strict=True):
        assert (tensor.name, tuple(tensor.shape[::-1]), int(tensor.tensor_type)) == (name, shape, kind)
        assert tensor.data.tobytes() == payload


def test_gguf_py_writes_what_we_read(tmp_path: Path) -> None:
    path = tmp_path / "b.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_string("general.description", "x" * 100_000)
    writer.add_tensor("output_norm.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert file.architecture == "llama"
    assert file.get("tokenizer.ggml.scores") == [0.5, -1.0]
    assert file.get("general.description") == "x" * 100_000
    (tensor,) = file.tensors
    assert (tensor.shape, tensor.type) == ((3, 4), GGMLType.F32)
    assert np.frombuffer(path.read_bytes(), np.float32, 12, tensor.offset).tolist() == list(range(12))


def test_bytes_that_are_no_utf8_survive_a_copy(tmp_path: Path) -> None:
    raw = b"\xff\xfe broken"
    header = encode_header({"k": string(raw.decode("utf-8", "surrogateescape"))}, [])
    path = tmp_path / "c.gguf"
    path.write_bytes(header.data)
    again = encode_header(read_gguf(path).metadata, [])
    assert again.data == header.data
    assert raw in again.data


@pytest.mark.parametrize("kind", list(GGMLType))
def test_geometry_is_that_of_the_installed_ggml(kind: GGMLType) -> None:
    import ctypes

    from llama_cpp import _ggml

    base = _ggml.libggml
    base.ggml_blck_size.restype = ctypes.c_int64
    base.ggml_type_size.restype = ctypes.c_size_t
    assert base.ggml_blck_size(ctypes.c_int(kind)) == kind.block_size
    assert base.ggml_type_size(ctypes.c_int(kind)) == kind.type_size
