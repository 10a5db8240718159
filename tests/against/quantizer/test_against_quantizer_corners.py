"""Rare cases against llama.cpp's quantizer: other architectures of the family, odd headers, missing importance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.quant import FILE_TYPES, QuantError

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.quantizer.conftest import Workshop


def write_model(path: Path, arch: str, n_layer: int, tensors: dict[str, Any], *, heads: int = 4, kv: int = 1) -> Path:
    """A small model of another kind: arrays are stored as they are."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(n_layer)
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_dimension_count(256 // heads)
    for add in (writer.add_ssm_conv_kernel, writer.add_ssm_inner_size, writer.add_ssm_state_size):
        add(4)
    writer.add_ssm_time_step_rank(4)
    writer.add_ssm_group_count(1)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("heads", [4, 1])
@pytest.mark.parametrize("name", [t.name for t in FILE_TYPES if not t.very_low])
@pytest.mark.parametrize("arch", ["llama", "deci", "nemotron"])
def test_eighty_layers(workshop: Workshop, arch: str, name: str, heads: int, tmp_path: Path) -> None:
    """Llama-Nemotron 70B: attention values get Q5_K in a model of 80 layers with shared heads."""
    rows = {part: normal(2, 256) for part in ("attn_v", "attn_output", "ffn_gate", "ffn_down")}
    tensors = {f"blk.{i}.{part}.weight": values for i in (0, 1, 5, 40, 79) for part, values in rows.items()}
    tensors |= {"token_embd.weight": normal(4, 256)}
    source = write_model(tmp_path / "source.gguf", arch, 80, tensors, heads=heads)
    answer = workshop.llama(source, tmp_path / "llama.gguf", name)
    if answer.code:
        with pytest.raises(QuantError):
            workshop.ours(source, tmp_path / "ours.gguf", name)
    else:
        workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", name), answer.data)


def test_order_names_and_shapes(workshop: Workshop, tmp_path: Path) -> None:
    """Layers in the order of their numbers, names by their bytes, dimensions of one left out at the front."""
    names = ["blk.10.ffn_up.weight", "blk.2.ffn_up.weight", "output_norm.weight", "blk.2.attn_v.weight", "blk.a.weight"]
    tensors = {name: normal(3, 256) for name in names}
    tensors |= {"blk.1.ssm_norm.weight": normal(1, 256), "blk.1.ffn_up_exps.weight": normal(1, 1, 256)}
    tensors |= {"blk.0.ffn_down_exps.weight": normal(1, 4, 256), "Zeta.weight": normal(2, 256), "rope_freqs": normal(4)}
    source = write_model(tmp_path / "source.gguf", "nemotron_h", 11, tensors)
    for name in ("Q4_K_M", "MXFP4_MOE"):
        answer = workshop.llama(source, tmp_path / f"{name}.gguf", name)
        workshop.assert_same(workshop.ours(source, tmp_path / f"ours-{name}.gguf", name), answer.data)


def broken(kind: str) -> Any:
    values = normal(4, 256)
    values[2, 100] = {"nan": np.nan, "inf": np.inf, "large": 1e6}[kind]
    return values


@pytest.mark.parametrize(
    ("kind", "tensor", "name"),
    [
        ("nan", "blk.0.ffn_up.weight", "Q4_K_M"),
        ("nan", "blk.0.ffn_up.weight", "Q4_0"),
        ("inf", "blk.0.ffn_up.weight", "Q8_0"),
        ("nan", "blk.0.attn_norm.weight", "Q8_0"),
        ("inf", "blk.0.ffn_up.weight", "F32"),
        ("large", "blk.0.ffn_up.weight", "F16"),
    ],
)
def test_values_that_are_not_finite(workshop: Workshop, kind: str, tensor: str, name: str, tmp_path: Path) -> None:
    """Refused by both, by us with the tensor's name, and no file is left."""
    source = write_model(tmp_path / "source.gguf", "nemotron_h", 1, {tensor: broken(kind)})
    assert workshop.llama(source, tmp_path / "llama.gguf", name).code
    with pytest.raises(QuantError, match=tensor.replace(".", r"\.")):
        workshop.ours(source, tmp_path / "ours.gguf", name)
    assert sorted(path.name for path in tmp_path.iterdir() if "ours" in path.name) == []


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("Q4_K_M", "blk.0.ffn_up_exps.weight"),
        ("IQ2_XXS", "blk.0.ffn_up_exps.weight"),
        ("IQ3_XXS", "blk.3.attn_q.weight"),
        ("IQ2_XXS", "output.weight"),
        ("Q2_K_S", "blk.2.ssm_in.weight"),
    ],
)
def test_importance_that_is_missing(workshop: Workshop, name: str, gone: str, tmp_path: Path) -> None:
    """A tensor that the matrix leaves out is quantized without it, or refused where its type cannot do so."""
    whole, source = workshop.importance("aligned"), workshop.model("aligned")
    entries = {tensor: file for tensor, file in whole.entries.items() if tensor != gone}
    keys = tuple((key, len(entries) if key.endswith("entries_count") else value) for key, value in whole.keys)
    path = copy_imatrix(whole.path, tmp_path / whole.path.name, without=gone)
    keys = tuple((key, str(path) if key.endswith("file") else value) for key, value in keys)
    importance = replace(whole, path=path, entries=entries, keys=keys)
    answer = workshop.llama(source, tmp_path / "llama.gguf", name, importance)
    if answer.code:
        with pytest.raises(QuantError, match=gone.replace(".", r"\.")):
            workshop.ours(source, tmp_path / "ours.gguf", name, importance)
    else:
        workshop.assert_same(workshop.ours(source, tmp_path / "ours.gguf", name, importance), answer.data)


def copy_imatrix(source: Path, target: Path, without: str) -> Path:
    writer = gguf.GGUFWriter(target, "")
    writer.add_array("imatrix.datasets", ["demo talk.txt", "more.txt"])
    writer.add_uint32("imatrix.chunk_count", 11)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in gguf.GGUFReader(source).tensors:
        if not tensor.name.startswith(without):
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_importance_of_another_model(workshop: Workshop, tmp_path: Path) -> None:
    """Sizes that do not fit are refused by both."""
    source, importance = workshop.model("unaligned"), workshop.importance("aligned")
    assert workshop.llama(source, tmp_path / "llama.gguf", "Q4_K_M", importance).code
    with pytest.raises(NemotronError, match="another model"):
        workshop.ours(source, tmp_path / "ours.gguf", "Q4_K_M", importance)
