"""GGUF files that cannot be quantized: one error of one line, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemotron_gguf.convert import Output, WriteOptions, write_files
from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, array, string, u32
from nemotron_gguf.models.gguf_values import ValueType as V
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization

ARCH = "nemotron_h_moe"
KEYS = {
    "general.architecture": string(ARCH),
    f"{ARCH}.block_count": u32(4),
    f"{ARCH}.expert_count": u32(2),
    f"{ARCH}.attention.head_count": u32(4),
    f"{ARCH}.attention.head_count_kv": array(V.INT32, [0, 2, 0, 0]),
}
TENSORS = [
    ("token_embd.weight", (8, 256), GGMLType.F32),
    ("blk.0.ffn_up_exps.weight", (2, 4, 256), GGMLType.BF16),
    ("blk.1.attn_v.weight", (4, 256), GGMLType.F16),
    ("blk.1.attn_norm.weight", (256,), GGMLType.F32),
]
Tensors = list[tuple[str, tuple[int, ...], GGMLType]]


def file_bytes(keys: dict[str, Value] = KEYS, tensors: Tensors = TENSORS) -> bytes:
    header = encode_header(keys, tensors)
    return header.data + bytes(header.file_size - len(header.data))


def keys(**changes: Value | None) -> dict[str, Value]:
    named = {key.replace("__", ".").replace("arch.", f"{ARCH}."): value for key, value in changes.items()}
    return {key: value for key, value in {**KEYS, **named}.items() if value is not None}


def renamed(name: str, shape: tuple[int, ...] = (4, 256), kind: GGMLType = GGMLType.F32) -> Tensors:
    return [*TENSORS, (name, shape, kind)]


CASES = {
    "no architecture": file_bytes(keys(general__architecture=None)),
    "architecture is a number": file_bytes(keys(general__architecture=u32(1))),
    "architecture with rules of its own": file_bytes(keys(general__architecture=string("falcon"))),
    "no layers": file_bytes(keys(arch__block_count=None)),
    "zero layers": file_bytes(keys(arch__block_count=u32(0))),
    "layers are text": file_bytes(keys(arch__block_count=string("4"))),
    "layers are negative": file_bytes(keys(arch__block_count=Value(V.INT32, -4))),
    "layers are a flag": file_bytes(keys(arch__block_count=Value(V.BOOL, True))),
    "experts are a fraction": file_bytes(keys(arch__expert_count=Value(V.FLOAT32, 1.5))),
    "heads are text": file_bytes(keys(arch__attention__head_count=array(V.STRING, ["4"]))),
    "a tensor of no rows": file_bytes(tensors=renamed("blk.2.ffn_down.weight", (0, 256))),
    "a tensor of empty rows": file_bytes(tensors=renamed("blk.2.ffn_down.weight", (4, 0))),
    "layer past the last": file_bytes(tensors=renamed("blk.4.ffn_down.weight")),
    "layer of many digits": file_bytes(tensors=renamed(f"blk.{'9' * 40}.ffn_down.weight")),
    "expert outside the layers": file_bytes(tensors=renamed("ffn_gate_exps.weight")),
    "integers for weights": file_bytes(tensors=renamed("blk.2.ssm_in.weight", kind=GGMLType.I32)),
    "doubles for weights": file_bytes(tensors=renamed("blk.2.ssm_in.weight", kind=GGMLType.F64)),
    "blocks already": file_bytes(tensors=renamed("blk.2.ssm_in.weight", kind=GGMLType.Q6_K)),
    "four dimensions": file_bytes(tensors=renamed("blk.2.ssm_in.weight", (2, 2, 2, 256))),
    "a part of several": file_bytes({**KEYS, "split.no": Value(V.UINT16, 1), "split.count": Value(V.UINT16, 3)}),
    "count of parts is text": file_bytes({**KEYS, "split.no": Value(V.UINT16, 0), "split.count": string("3")}),
    "two thousand million parts": file_bytes({**KEYS, "split.no": Value(V.UINT16, 0), "split.count": u32(2**31)}),
    "not a GGUF": b"PK\3\4" + bytes(100),
    "empty": b"",
}


def quantize(source: Path, target: Path, name: str = "Q8_0") -> None:
    plan = plan_quantization(plan_of_file(source), QuantizeOptions(file_type(name)))
    write_files([Output(plan, target)], WriteOptions(threads=1))


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(CASES[case])
    with pytest.raises(NemotronError) as caught:
        quantize(source, tmp_path / "out.gguf", "Q4_K_M")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_the_sound_file_is_taken(tmp_path: Path) -> None:
    """What the cases above are changed from."""
    (tmp_path / "source.gguf").write_bytes(file_bytes())
    quantize(tmp_path / "source.gguf", tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").stat().st_size > 0


def test_cut_anywhere(tmp_path: Path) -> None:
    """At every byte of the header and at some of the data."""
    data, source = file_bytes(), tmp_path / "source.gguf"
    for length in (*range(700), *range(700, len(data) - 32, 501)):
        source.write_bytes(data[:length])
        with pytest.raises(NemotronError):
            quantize(source, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


@pytest.mark.parametrize("number", [2, 3])
def test_parts_that_are_missing_or_strange(number: int, tmp_path: Path) -> None:
    """The second or third of three files is not there, and then is another model's."""
    for part in (1, 2, 3):
        split = {"split.no": Value(V.UINT16, part - 1), "split.count": Value(V.UINT16, 3)}
        split["split.tensors.count"] = Value(V.INT32, 12)
        named: Tensors = [(f"{part}.{name}", shape, kind) for name, shape, kind in TENSORS]
        (tmp_path / f"m-{part:05}-of-00003.gguf").write_bytes(file_bytes({**KEYS, **split}, named))
    first, odd = tmp_path / "m-00001-of-00003.gguf", tmp_path / f"m-{number:05}-of-00003.gguf"
    assert len(plan_of_file(first).tensors) == 12
    odd.unlink()
    with pytest.raises(NemotronError, match=odd.name):
        plan_of_file(first)
    odd.write_bytes(first.read_bytes())
    with pytest.raises(NemotronError, match="says that it is part 0"):
        plan_of_file(first)
