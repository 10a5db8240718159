"""A Nemotron-H of 200 kB with random weights, written by hand: quick to load, and any of its keys can be spoiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, f32, string, u32
from nemotron_gguf.models.gguf_writer import encode_header

TinyGGUF: TypeAlias = Callable[..., Path]

TEMPLATE = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{%- endfor %}"
    "<|im_start|>assistant\n{{ '<think>\n' if enable_thinking else '<think></think>' }}"
)
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
N_EMBD, N_FF, N_EXPERT, D_INNER, D_STATE, N_GROUP, N_HEAD, HEAD = 64, 32, 4, 64, 16, 2, 4, 16


def byte_letters() -> list[str]:
    """GPT-2's printable letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tiny_metadata() -> dict[str, Value]:
    words = SPECIAL + byte_letters()
    numbers = {
        "block_count": 3, "context_length": 1024, "embedding_length": N_EMBD, "vocab_size": len(words),
        "ssm.conv_kernel": 4, "ssm.inner_size": D_INNER, "ssm.state_size": D_STATE, "ssm.time_step_rank": 4,
        "ssm.group_count": N_GROUP, "attention.head_count": N_HEAD, "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "expert_count": N_EXPERT, "expert_used_count": 2, "expert_feed_forward_length": N_FF,
        "expert_shared_feed_forward_length": N_FF, "expert_shared_count": 1, "rope.dimension_count": HEAD,
    }  # fmt: skip
    lists = {"feed_forward_length": [0, 0, N_FF], "attention.head_count_kv": [0, 2, 0]}
    arch = "nemotron_h_moe"
    return {
        "general.architecture": string(arch),
        "general.name": string("Tiny"),
        **{f"{arch}.{key}": u32(number) for key, number in numbers.items()},
        **{f"{arch}.{key}": array(ValueType.INT32, items) for key, items in lists.items()},
        f"{arch}.attention.layer_norm_epsilon": f32(1e-5),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(1e-5),
        f"{arch}.expert_weights_norm": boolean(True),
        f"{arch}.expert_weights_scale": f32(1.0),
        f"{arch}.expert_gating_func": u32(2),
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string("pixtral"),
        "tokenizer.ggml.tokens": array(ValueType.STRING, words),
        "tokenizer.ggml.token_type": array(ValueType.INT32, [3] * len(SPECIAL) + [1] * 256),
        "tokenizer.ggml.merges": array(ValueType.STRING, ["h e", "l l"]),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.eos_token_id": u32(4),
        "tokenizer.ggml.add_bos_token": boolean(False),
        "tokenizer.chat_template": string(TEMPLATE),
    }


def tiny_shapes() -> dict[str, tuple[int, ...]]:
    n_vocab, convolved = len(SPECIAL) + 256, D_INNER + 2 * N_GROUP * D_STATE
    return {
        "token_embd.weight": (n_vocab, N_EMBD),
        "output_norm.weight": (N_EMBD,),
        "output.weight": (n_vocab, N_EMBD),
        "blk.0.attn_norm.weight": (N_EMBD,),
        "blk.0.ssm_in.weight": (D_INNER + convolved + 4, N_EMBD),
        "blk.0.ssm_conv1d.weight": (convolved, 4),
        "blk.0.ssm_conv1d.bias": (convolved,),
        "blk.0.ssm_dt.bias": (4,),
        "blk.0.ssm_a": (4, 1),
        "blk.0.ssm_d": (4, 1),
        "blk.0.ssm_norm.weight": (N_GROUP, D_INNER // N_GROUP),
        "blk.0.ssm_out.weight": (N_EMBD, D_INNER),
        "blk.1.attn_norm.weight": (N_EMBD,),
        "blk.1.attn_q.weight": (N_HEAD * HEAD, N_EMBD),
        "blk.1.attn_k.weight": (2 * HEAD, N_EMBD),
        "blk.1.attn_v.weight": (2 * HEAD, N_EMBD),
        "blk.1.attn_output.weight": (N_EMBD, N_HEAD * HEAD),
        "blk.2.attn_norm.weight": (N_EMBD,),
        "blk.2.ffn_gate_inp.weight": (N_EXPERT, N_EMBD),
        "blk.2.exp_probs_b.bias": (N_EXPERT,),
        "blk.2.ffn_up_exps.weight": (N_EXPERT, N_FF, N_EMBD),
        "blk.2.ffn_down_exps.weight": (N_EXPERT, N_EMBD, N_FF),
        "blk.2.ffn_up_shexp.weight": (N_FF, N_EMBD),
        "blk.2.ffn_down_shexp.weight": (N_EMBD, N_FF),
    }


def tiny_weights(
    name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if name.endswith("norm.weight"):
        return np.ones(shape, np.float32)
    values = rng.standard_normal(shape).astype(np.float32)
    return -np.abs(values) if name.endswith("ssm_a") else values * np.float32(shape[-1] ** -0.5)


def write_tiny(
    path: Path,
    change: Mapping[str, Value | None] | None = None,
    *,
    drop: str = "",
    fill: Mapping[str, float] | None = None,
) -> Path:
    """Write the file with keys changed (None removes one), the tensors that begin with `drop` left out, and others
    filled with one number."""
    metadata = {key: value for key, value in (tiny_metadata() | dict(change or {})).items() if value is not None}
    shapes = {name: shape for name, shape in tiny_shapes().items() if not (drop and name.startswith(drop))}
    header = encode_header(metadata, [(name, shape, GGMLType.F32) for name, shape in shapes.items()])
    rng = np.random.default_rng(1)
    data = bytearray(header.data) + bytes(header.file_size - len(header.data))
    for (name, shape), offset in zip(shapes.items(), header.offsets, strict=True):
        values = tiny_weights(name, shape, rng)
        if fill and name in fill:
            values[...] = fill[name]
        data[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> TinyGGUF:
    """Makes a tiny model file: `tiny_gguf(change={key: value}, drop="blk.2.", fill={tensor: number})`."""

    def make(change: Mapping[str, Value | None] | None = None, **options: object) -> Path:
        return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf", change, **options)  # type: ignore[arg-type]

    return make
