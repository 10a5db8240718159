"""Every option of the quantizer against llama.cpp's: whole files, to the byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from nemotron_gguf.convert.writer import chunks, run
from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.quant import (
    QuantError,
    QuantizeOptions,
    file_type,
    parse_tensor_type,
    plan_of_file,
    plan_quantization,
)
from nemotron_gguf.quant.ggml_base import ENCODABLE

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.quantizer.conftest import Importance, Workshop

CASES: dict[str, dict[str, Any]] = {
    "pure": {"pure": True},
    "output left": {"quantize_output_tensor": False},
    "output type": {"output_tensor_type": GGMLType.Q5_0},
    "embedding type": {"token_embedding_type": GGMLType.Q8_0},
    "both types": {"output_tensor_type": GGMLType.F16, "token_embedding_type": GGMLType.BF16},
    "pure with output type": {"pure": True, "output_tensor_type": GGMLType.Q8_0},
    "tensor types": {"tensor_types": ("ffn_down=q8_0", r"blk\.(3|8)\..*=Q5_1", "ffn_=IQ4_NL", "output=f16")},
    "tensor types and pure": {"pure": True, "tensor_types": ("attn_v=F32", "ssm_=q6_K")},
    "unfitting tensor type": {"tensor_types": ("ffn_down_exps=q3_k", "attn=IQ4_XS")},
}


def both(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options in this package's words, and in those of llama_model_quantize_params."""
    mine, theirs = dict(options), dict(options)
    if "quantize_output_tensor" in mine:
        mine["leave_output_tensor"] = not mine.pop("quantize_output_tensor")
    if "tensor_types" in mine:
        pairs = tuple(parse_tensor_type(text) for text in mine["tensor_types"])
        mine["tensor_types"] = pairs
        theirs["tensor_types"] = [(pattern.pattern, kind) for pattern, kind in pairs]
    return mine, theirs


@pytest.mark.parametrize("name", ["Q4_K_M", "Q3_K_S", "MXFP4_MOE", "BF16"])
@pytest.mark.parametrize("model", ["aligned", "unaligned", "eight"])
@pytest.mark.parametrize("case", CASES)
def test_options(workshop: Workshop, case: str, model: str, name: str, tmp_path: Path) -> None:
    """Whole files with each option, where the types fit; "eight" has no output matrix of its own."""
    mine, theirs = both(CASES[case])
    source = workshop.model(model)
    answer = workshop.llama(source, tmp_path / "llama.gguf", name, **theirs)
    workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", name, **mine), answer.data)


@pytest.mark.parametrize("kind", sorted(ENCODABLE), ids=lambda kind: kind.name)
def test_every_tensor_type(workshop: Workshop, kind: GGMLType, tmp_path: Path) -> None:
    """Each type that a tensor can be stored in, those that no file type uses included, with importance."""
    source, importance = workshop.model("aligned"), workshop.importance("aligned")
    mine, theirs = both({"tensor_types": (f"_exps={kind.name}", f"attn_q={kind.name}")})
    answer = workshop.llama(source, tmp_path / "llama.gguf", "Q8_0", importance, **theirs)
    workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", "Q8_0", importance, **mine), answer.data)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 1000, 3000])
def test_threads_and_chunks(
    workshop: Workshop, threads: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes depend neither on threads nor on where tensors are cut, within an expert or across several."""
    monkeypatch.setattr(run, "ENCODE_WEIGHTS", chunk)
    monkeypatch.setattr(chunks, "READ_WEIGHTS", 3 * chunk)
    source, importance = workshop.model("aligned"), workshop.importance("aligned")
    answer = workshop.llama(source, tmp_path / "llama.gguf", "Q4_K_M", importance, nthread=threads)
    found = workshop.ours(source, tmp_path / "ours.gguf", "Q4_K_M", importance, threads)
    workshop.assert_same(found, answer.data)


@pytest.mark.parametrize("stored", ["Q8_0", "Q4_K_M", "IQ4_XS", "MXFP4_MOE", "TQ2_0"])
@pytest.mark.parametrize("name", ["Q4_K_M", "Q6_K", "F32", "F16"])
def test_requantize(workshop: Workshop, stored: str, name: str, tmp_path: Path) -> None:
    """A file that is quantized already, once with permission and once without."""
    source = workshop.llama(workshop.model("aligned"), tmp_path / "stored.gguf", stored).target
    answer = workshop.llama(source, tmp_path / "llama.gguf", name, allow_requantize=True)
    found = workshop.ours(source, tmp_path / "ours.gguf", name, allow_requantize=True)
    workshop.assert_same(found, answer.data)
    assert (workshop.llama(source, tmp_path / "refused.gguf", name).code != 0) is (stored != name)
    if stored != name:
        with pytest.raises(QuantError, match="--allow-requantize"):
            workshop.ours(source, tmp_path / "refused.gguf", name)


def test_requantize_to_the_same_type(workshop: Workshop, tmp_path: Path) -> None:
    """Tensors that have their type already are copied, and no permission is needed."""
    source = workshop.llama(workshop.model("unaligned"), tmp_path / "stored.gguf", "Q8_0").target
    answer = workshop.llama(source, tmp_path / "llama.gguf", "Q8_0")
    workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", "Q8_0"), answer.data)


def legacy(importance: Importance, path: Path, n_calls: int, tail: bytes) -> Importance:
    """The same importance in the older format, whose values are means times the number of calls."""
    entries, parts = {}, [struct.pack("<i", len(importance.entries))]
    for name, file in importance.entries.items():
        values = np.load(file).astype(np.float32).ravel() * np.float32(n_calls)
        parts.append(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", n_calls, values.size))
        parts.append(values.tobytes())
        entries[name] = str(path.with_name(f"{name}.npy"))
        np.save(entries[name], values / np.float32(n_calls) if n_calls > 0 else values)
    path.write_bytes(b"".join(parts) + tail)
    keys = [("quantize.imatrix.file", str(path)), *importance.keys[1:]]
    return replace(importance, path=path, entries=entries, keys=tuple(keys))


@pytest.mark.parametrize("n_calls", [1, 7])
def test_legacy_imatrix(workshop: Workshop, n_calls: int, tmp_path: Path) -> None:
    """A .dat file with its chunk count and data set's name."""
    tail = struct.pack("<ii", 11, len("demo talk.txt")) + b"demo talk.txt"
    importance = legacy(workshop.importance("aligned"), tmp_path / "old.dat", n_calls, tail)
    source = workshop.model("aligned")
    answer = workshop.llama(source, tmp_path / "llama.gguf", "IQ3_M", importance)
    workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", "IQ3_M", importance), answer.data)


def test_legacy_imatrix_without_tail(workshop: Workshop, tmp_path: Path) -> None:
    """The oldest .dat files end after the entries, and the keys about chunks and data set are absent."""
    importance = legacy(workshop.importance("aligned"), tmp_path / "old.dat", 3, b"")
    importance = replace(importance, keys=(importance.keys[0], importance.keys[2]))
    source = workshop.model("aligned")
    answer = workshop.llama(source, tmp_path / "llama.gguf", "Q4_0", importance)
    workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", "Q4_0", importance), answer.data)


def test_split_source(workshop: Workshop, tmp_path: Path) -> None:
    """A model in three files is given by its first and becomes one."""
    parts = split(workshop.model("aligned"), tmp_path, 3)
    answer = workshop.llama(parts[0], tmp_path / "llama.gguf", "Q5_K_M")
    workshop.assert_same(workshop.ours(parts[0], tmp_path / "ours.gguf", "Q5_K_M"), answer.data)
    with pytest.raises(ModelError, match="give the first"):
        plan_of_file(parts[1])


def split(path: Path, folder: Path, count: int) -> list[Path]:
    """Cut a model as llama-gguf-split does: the keys in the first part, a share of the tensors in each."""
    reader, parts = gguf.GGUFReader(path), []
    for number in range(count):
        part = folder / f"model-{number + 1:05}-of-{count:05}.gguf"
        writer = gguf.GGUFWriter(part, "nemotron_h_moe" if number == 0 else "")
        if number == 0:
            for key, value in read_gguf(path).metadata.items():
                if key != "general.architecture":
                    kind = gguf.GGUFValueType.ARRAY if value.is_array else gguf.GGUFValueType(value.type)
                    sub = gguf.GGUFValueType(value.type) if value.is_array else None
                    writer.add_key_value(key, value.plain(), kind, sub)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[number::count]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        parts.append(part)
    return parts


@pytest.mark.parametrize(
    ("option", "kind", "stored"),
    [
        ("output_tensor_type", GGMLType.Q4_K, GGMLType.Q5_0),
        ("output_tensor_type", GGMLType.IQ3_S, GGMLType.IQ4_NL),
        ("token_embedding_type", GGMLType.Q6_K, GGMLType.Q8_0),
        ("token_embedding_type", GGMLType.TQ1_0, GGMLType.Q4_0),
    ],
)
def test_unfitting_explicit_types(
    workshop: Workshop, option: str, kind: GGMLType, stored: GGMLType, tmp_path: Path
) -> None:
    """Rows of 224 weights: the fall-back of any other tensor, and a word; llama.cpp would write past its buffer.

    What is written is then what llama.cpp writes when it is asked for the fall-back itself.
    """
    source = workshop.model("unaligned")
    chosen: dict[str, Any] = {option: kind}
    options = QuantizeOptions(file_type("Q4_K_M"), **chosen)
    notes = plan_quantization(plan_of_file(source), options).notes
    assert any(f"becomes {stored.name}, not {kind.name} as asked" in note for note in notes), notes
    fitting: dict[str, Any] = {option: stored}
    answer = workshop.llama(source, tmp_path / "llama.gguf", "Q4_K_M", **fitting)
    workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", "Q4_K_M", **chosen), answer.data)
