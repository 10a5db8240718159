"""Checkpoints in 4-bit floats: against llama.cpp's converter, torch's arithmetic and ggml's; run by libllama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from nemotron_gguf.convert import Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization
from nemotron_gguf.quant.encode import numbers
from nemotron_gguf.quant.ggml_base import as_float32
from nemotron_gguf.tests.against.test_against_fp8 import PRECISION, different
from nemotron_gguf.tests.against.test_against_transformers import kl, llama_logits
from nemotron_gguf.tests.nvfp4_checkpoint import Style, compressed, exported, make, modelopt, twin

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.conftest import Reference
    from nemotron_gguf.tests.conftest import Checkpoints

SIZES = {"hidden": 128, "width": 64, "shared": 192, "dtype": torch.bfloat16}
EXPERTS = (".experts.",)
LAYERS = {
    **{f"backbone.layers.{layer}.mixer.experts.{expert}.{name}": {"quant_algo": "NVFP4", "group_size": 16}
       for layer in (1, 3, 7) for expert in range(8) for name in ("up_proj", "down_proj")},
    **{f"backbone.layers.{layer}.mixer.{name}": {"quant_algo": "FP8"}
       for layer in (4, 6) for name in ("in_proj", "out_proj")},
}  # fmt: skip
MIXED = Style(modelopt("MIXED_PRECISION", quantized_layers=LAYERS), taken=EXPERTS, eight=("in_proj", "out_proj"))
KIND: Mapping[str, Any] = {"moe": SIZES, "dense": {**SIZES, "pattern": "M-M*-M-*", "mlp": 320, "n_experts": 0}}
STYLES: Mapping[str, tuple[str, Style]] = {
    "modelopt": ("moe", Style(modelopt(), exported())),
    "modelopt-file-only": ("moe", Style(None, exported(), input_scale=False)),
    "modelopt-everything": ("moe", Style(modelopt(), taken=(".mixer.", "lm_head"), left=(".gate.", "conv1d"))),
    "modelopt-wide-inputs": ("moe", Style(modelopt("W4A16_NVFP4"), input_scale=False)),
    "modelopt-mixed": ("moe", MIXED),
    "modelopt-trivial": ("moe", Style(modelopt(), trivial=True, input_scale=False)),
    "modelopt-dense": ("dense", Style(modelopt(), exported())),
    "compressed": ("moe", Style(compressed(), packed=True)),
    "compressed-dense": ("dense", Style(compressed(), packed=True, input_scale=False)),
}


@dataclass
class Made:
    """Checkpoints in 4 bits with what their weights are, each made once."""

    folder: Path
    checkpoints: Checkpoints
    made: dict[str, tuple[Path, Path, dict[str, torch.Tensor]]] = field(default_factory=dict)

    def get(self, name: str) -> tuple[Path, Path, dict[str, torch.Tensor]]:
        """The checkpoint, the plain one it was made from, and the exact values by name."""
        if name not in self.made:
            kind, style = STYLES[name]
            source = self.folder / "plain" / kind
            if not source.exists():
                self.checkpoints.make(source, **KIND[kind])
            folder, exact = make(source, self.folder / name, style)
            self.made[name] = folder, source, exact
        return self.made[name]


@pytest.fixture(scope="module")
def made(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("nvfp4"), checkpoints)


@pytest.fixture(scope="module")
def theirs(made: Made, reference: Reference) -> Mapping[tuple[Path, str], Path]:
    return reference.convert(
        [(made.get(name)[0], outtype, "pixtral") for name in STYLES for outtype in ("bf16", "f32")]
    )


def convert(folder: Path, target: Path, outtype: Any = "auto") -> GGUFFile:
    with open_checkpoint(folder) as checkpoint:
        write_files([Output(plan_conversion(checkpoint, outtype), target)], WriteOptions(threads=2))
    return read_gguf(target)


@pytest.mark.parametrize("outtype", ["bf16", "f32"])
@pytest.mark.parametrize("name", STYLES)
def test_a_file_is_that_of_the_reference(
    name: str, outtype: str, made: Made, theirs: Mapping[tuple[Path, str], Path], tmp_path: Path
) -> None:
    folder = made.get(name)[0]
    ours, reference = convert(folder, tmp_path / "ours.gguf", outtype), read_gguf(theirs[folder, outtype])
    assert "NVFP4" in {tensor.type.name for tensor in ours.tensors}
    assert not different(ours, reference)
    keys = dict(ours.metadata)
    assert keys.pop(PRECISION).plain() == ("F8_E4M3,NVFP4" if name == "modelopt-mixed" else "NVFP4")
    context = f"{ours.architecture}.context_length"  # ours is what the model supports
    other = {key: value for key, value in reference.metadata.items() if key != context}
    assert {key: value for key, value in keys.items() if key != context} == other


def values(file: GGUFFile, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A tensor's rows as ggml decodes them, times the scale beside it, in float64: exact."""
    tensors = {tensor.name: tensor for tensor in file.tensors}
    raw = np.fromfile(file.path, np.uint8)
    info = tensors[name]
    rows = raw[info.offset : info.offset + info.nbytes].reshape(-1, info.type.row_bytes(info.shape[-1]))
    decoded = as_float32(numbers(rows, info.type, info.shape[-1])).astype(np.float64).reshape(info.shape)
    scale = tensors.get(name.removesuffix("weight") + "scale")
    if scale is None:
        return decoded
    factors = raw[scale.offset : scale.offset + scale.nbytes].view(np.float32).astype(np.float64)
    return decoded * factors.reshape(-1, *[1] * (decoded.ndim - 1))


PLACES = {"in_proj": "ssm_in", "out_proj": "ssm_out", "v_proj": "attn_v", "o_proj": "attn_output"}


@pytest.mark.parametrize("name", ["modelopt", "modelopt-trivial", "compressed", "modelopt-dense"])
def test_ggml_reads_the_numbers_that_torch_reads(name: str, made: Made, tmp_path: Path) -> None:
    folder, _, exact = made.get(name)
    file = convert(folder, tmp_path / "ours.gguf")
    compared = 0
    for source, expected in exact.items():
        layer, module = source.split(".")[2], source.removesuffix(".weight").rpartition(".")[2]
        if ".experts." in source:
            stacked = values(file, f"blk.{layer}.ffn_{module.removesuffix('_proj')}_exps.weight")
            found = stacked[int(source.split(".")[5])]
        elif module in PLACES:
            found = values(file, f"blk.{layer}.{PLACES[module]}.weight")
        else:
            continue
        assert np.array_equal(found, expected.numpy()), source
        compared += 1
    assert compared > (30 if "dense" not in name else 3)
    assert len({float(value) for value in torch.stack([e.abs().max() for e in exact.values()])}) > 3


@pytest.mark.parametrize("name", ["modelopt-everything", "modelopt-mixed", "compressed", "modelopt-dense"])
def test_libllama_computes_with_the_blocks_and_their_scales(name: str, made: Made, tmp_path: Path) -> None:
    """It rounds what goes into such a product to 8 bits: so it diverges, as it does with weights in Q8_0."""
    folder, source, exact = made.get(name)
    packed = convert(folder, tmp_path / "packed.gguf")
    plain = convert(twin(source, tmp_path / "twin", exact), tmp_path / "plain.gguf", "f32")
    eight = tmp_path / "eight.gguf"
    options = QuantizeOptions(type=file_type("Q8_0"))
    write_files([Output(plan_quantization(plan_of_file(plain.path), options), eight)], WriteOptions(threads=2))
    tokens = np.random.default_rng(0).integers(8, 400, 64).tolist()
    expected = llama_logits(plain.path, tokens)
    assert expected.std(axis=1).min() > 0.1, "a flat distribution would prove nothing"
    found, usual = (float(np.median(kl(expected, llama_logits(path, tokens)))) for path in (packed.path, eight))
    print(f"{name}: median KL divergence {found:.2e}, of Q8_0 {usual:.2e}")
    assert found < 3 * usual < 0.05


MULTIPLIED: Mapping[str, tuple[Mapping[str, Any], Style, tuple[str, ...]]] = {
    # sizes, what is in 4 bits, names of tensors that nevertheless keep no blocks
    "an embedding": ({}, Style(modelopt(), taken=("embeddings",), left=()), ("token_embd",)),
    "a latent width": (
        {"latent": 64}, Style(modelopt(), left=(".gate.",)), ("ffn_latent_up", "ffn_latent_down"),
    ),
    "a bias": (
        {"pattern": "M-*-", "n_experts": 0, "mlp": 128, "attention_bias": True}, Style(modelopt()), (),
    ),
    "rows of 96": ({"hidden": 96}, Style(modelopt(), left=(".gate.",)), ("ssm_in", "attn_q", "ffn_up_exps")),
    "one expert in 16 bits": (
        {}, Style(modelopt(), taken=EXPERTS, left=(".experts.2.up",)), ("ffn_up_exps",),
    ),
    "one expert in 8 bits": (
        {}, Style(modelopt("MIXED_PRECISION", quantized_layers=LAYERS), taken=EXPERTS, eight=(".experts.2.up",)),
        ("ffn_up_exps",),
    ),
    "a draft head": ({"mtp": True}, Style(modelopt(), taken=("mtp.", ".mixer."), left=(".gate.",)), ("nextn.eh_proj",)),
}  # fmt: skip


@pytest.mark.parametrize("name", MULTIPLIED)
def test_what_can_keep_no_blocks_is_torchs_product(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    """llama.cpp's converter writes files that libllama refuses, mixes the draft head with layer 1, or stops."""
    sizes, style, stems = MULTIPLIED[name]
    source = checkpoints.make(tmp_path / "plain", **{**SIZES, **sizes})
    folder, exact = make(source, tmp_path / "packed", style)
    ours = convert(folder, tmp_path / "ours.gguf", "f32")
    plain = convert(twin(source, tmp_path / "twin", exact), tmp_path / "plain.gguf", "f32")
    types = {tensor.name: tensor.type.name for tensor in ours.tensors}
    for stem in stems:
        assert {kind for tensor, kind in types.items() if tensor.endswith(f"{stem}.weight")} == {"F32"}, stem
    for tensor in types:
        if not tensor.endswith("scale"):
            wanted = values(plain, tensor)
            assert np.array_equal(values(ours, tensor).astype(np.float32), wanted), tensor
    tokens = list(range(20, 40))
    if name != "a draft head":
        assert np.median(kl(llama_logits(plain.path, tokens), llama_logits(ours.path, tokens))) < 5e-3
