"""The choice of types on the real model's shapes, against a dry run of llama.cpp's quantizer.

The file is Nemotron 3 Nano 30B-A3B's header with a hole for the weights: 63 GB that take a few kB of disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, f32, string, u32
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.quant import FILE_TYPES, QuantError, QuantizeOptions, file_type, plan_of_file, plan_quantization

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.quantizer.conftest import Workshop

PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
HIDDEN, EXPERT, SHARED, VOCAB, N_EXPERTS = 2688, 1856, 3712, 131072, 128
INNER, CONV, N_HEADS = 4096, 4096 + 2 * 8 * 128, 64  # 64 heads of 64; and state and input of 8 groups of 128
LINE = re.compile(r"\] +(\S+) +- \[.*?\], type = +(\S+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\S+)\))?")

OUTSIDE = (
    ("token_embd.weight", (VOCAB, HIDDEN)),
    ("output.weight", (VOCAB, HIDDEN)),
    ("output_norm.weight", (HIDDEN,)),
)
LAYERS: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "M": (
        ("ssm_in.weight", (INNER + CONV + N_HEADS, HIDDEN)),
        ("ssm_conv1d.weight", (CONV, 4)),
        ("ssm_conv1d.bias", (CONV,)),
        ("ssm_dt.bias", (N_HEADS,)),
        ("ssm_a", (N_HEADS, 1)),
        ("ssm_d", (N_HEADS, 1)),
        ("ssm_norm.weight", (8, INNER // 8)),
        ("ssm_out.weight", (HIDDEN, INNER)),
    ),
    "E": (
        ("ffn_gate_inp.weight", (N_EXPERTS, HIDDEN)),
        ("exp_probs_b.bias", (N_EXPERTS,)),
        ("ffn_up_exps.weight", (N_EXPERTS, EXPERT, HIDDEN)),
        ("ffn_down_exps.weight", (N_EXPERTS, HIDDEN, EXPERT)),
        ("ffn_up_shexp.weight", (SHARED, HIDDEN)),
        ("ffn_down_shexp.weight", (HIDDEN, SHARED)),
    ),
    "*": (
        ("attn_q.weight", (32 * 128, HIDDEN)),
        ("attn_k.weight", (2 * 128, HIDDEN)),
        ("attn_v.weight", (2 * 128, HIDDEN)),
        ("attn_output.weight", (HIDDEN, 32 * 128)),
    ),
}
KEPT_F32 = ("ffn_gate_inp.weight", "ssm_conv1d.weight", "ssm_norm.weight")


def tensors() -> Iterator[tuple[str, tuple[int, ...], GGMLType]]:
    named: list[tuple[str, tuple[int, ...]]] = [*OUTSIDE]
    for layer, letter in enumerate(PATTERN):
        named.append((f"blk.{layer}.attn_norm.weight", (HIDDEN,)))
        named += [(f"blk.{layer}.{name}", shape) for name, shape in LAYERS[letter]]
    for name, shape in named:
        is_matrix = len(shape) > 1 and name.endswith("weight") and not name.endswith(KEPT_F32)
        yield name, shape, GGMLType.BF16 if is_matrix else GGMLType.F32


def metadata() -> dict[str, Value]:
    per_layer = {
        "attention.head_count_kv": [2 if letter == "*" else 0 for letter in PATTERN],
        "feed_forward_length": [EXPERT if letter == "E" else 0 for letter in PATTERN],
    }
    numbers = {"block_count": 52, "context_length": 1 << 20, "embedding_length": HIDDEN, "vocab_size": VOCAB}
    numbers |= {"attention.head_count": 32, "attention.key_length": 128, "attention.value_length": 128}
    numbers |= {"ssm.conv_kernel": 4, "ssm.inner_size": INNER, "ssm.state_size": 128, "ssm.time_step_rank": N_HEADS}
    numbers |= {"ssm.group_count": 8, "expert_count": N_EXPERTS, "expert_used_count": 6, "expert_shared_count": 1}
    numbers |= {"expert_feed_forward_length": EXPERT, "expert_shared_feed_forward_length": SHARED}
    keys = {key: array(ValueType.INT32, items) for key, items in per_layer.items()}
    keys |= {key: u32(number) for key, number in numbers.items()}
    keys |= {"attention.layer_norm_epsilon": f32(1e-5), "attention.layer_norm_rms_epsilon": f32(1e-5)}
    return {"general.architecture": string("nemotron_h_moe"), **{f"nemotron_h_moe.{k}": v for k, v in keys.items()}}


@pytest.fixture(scope="module")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "30b.gguf"
    header = encode_header(metadata(), list(tensors()))
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)
    return path


@pytest.mark.parametrize("with_imatrix", [False, True], ids=["plain", "imatrix"])
@pytest.mark.parametrize("name", [kind.name for kind in FILE_TYPES])
def test_real_shapes(workshop: Workshop, real_model: Path, name: str, with_imatrix: bool, tmp_path: Path) -> None:
    """The same tensors in the same order, each of the type that llama.cpp's dry run tells, and refused where it is."""
    target, importance = tmp_path / "none.gguf", workshop.importance("unaligned") if with_imatrix else None
    answer = workshop.llama(real_model, target, name, importance, dry_run=True)
    imatrix = Imatrix("none", {}, (), 0) if with_imatrix else None  # whether there is one is all that matters here
    options = QuantizeOptions(file_type(name), imatrix=imatrix, dry_run=True)
    if answer.code:
        with pytest.raises(QuantError):
            plan_quantization(plan_of_file(real_model), options)
        return
    expected = [(tensor, (new or old).upper()) for tensor, old, new in LINE.findall(answer.log)]
    assert len(expected) == 401
    plan = plan_quantization(plan_of_file(real_model), options)
    assert [(tensor.name, tensor.type.name) for tensor in plan.tensors] == expected


def test_size_of_q4_k_m(real_model: Path) -> None:
    """The stock Q4_K_M of the 30B is 24.507 GB: too large for a card of 24 GB with any context."""
    plan = plan_quantization(plan_of_file(real_model), QuantizeOptions(file_type("Q4_K_M")))
    assert round(plan.header.file_size / 1e9, 3) == 24.507
