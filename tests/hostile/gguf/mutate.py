"""Drafts and files spoiled by lot: numbers at their edges, other types, lists of other lengths, bytes turned over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, f32, string, u32

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.gguf.draft import DRAFTS, Draft, Info
else:
    try:
        from draft import DRAFTS, Draft, Info  # the folder of a script is on its path
    except ImportError:
        from nemotron_gguf.tests.hostile.gguf.draft import DRAFTS, Draft, Info

EDGES = (
    *range(6), 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 511, 512, 513, 1023, 1024, 1025, 2**15,
    2**16 - 1, 2**16, 2**20, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1,
)  # fmt: skip
FLOATS = (0.0, -0.0, -1.0, 1.0, 1e-45, 1e-38, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
# Keys that libllama reads of some architecture, whether the draft has them or not (src/llama-arch.cpp).
KEYS = (
    "attention.alibi_bias_max", "attention.clamp_kqv", "attention.group_norm_epsilon", "attention.key_length_mla",
    "attention.key_length_swa", "attention.max_alibi_bias", "attention.q_lora_rank",
    "attention.relative_buckets_count", "attention.scale", "attention.sliding_window",
    "attention.sliding_window_pattern", "attention.value_length_swa", "attention.causal", "attn_logit_softcapping",
    "decoder_start_token_id", "dense_lead", "expert_gating_func", "expert_group_count", "expert_group_used_count",
    "expert_shared_count", "expert_weights_norm", "expert_weights_scale", "embedding_length_out", "embedding_scale",
    "final_logit_softcapping", "leading_dense_block_count", "logit_scale", "moe_every_n_layers", "moe_latent_size",
    "nextn_predict_layers", "pooling_type", "residual_scale", "rope.dimension_count", "rope.dimension_count_swa",
    "rope.dimension_sections", "rope.freq_base", "rope.freq_base_swa", "rope.scale_linear",
    "rope.scaling.attn_factor", "rope.scaling.factor", "rope.scaling.finetuned",
    "rope.scaling.original_context_length", "rope.scaling.type", "rope.scaling.yarn_log_multiplier",
    "ssm.conv_kernel", "ssm.dt_b_c_rms", "ssm.group_count", "ssm.inner_size", "ssm.state_size",
    "ssm.time_step_rank", "swin_norm", "token_shift_count", "use_parallel_residual", "vocab_size", "wkv.head_size",
)  # fmt: skip
TOKENIZER = (
    "add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces",
    "bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id", "seperator_token_id",
    "padding_token_id", "mask_token_id", "fim_pre_token_id", "prefix_token_id", "suppress_tokens",
    "token_type_count", "precompiled_charsmap", "pre", "model", "scores", "token_type", "merges",
)  # fmt: skip
WORDS = (
    "llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4", "whitespace", "none", "test", "default", "llama3",
    "tekken", "qwen2", "yarn", "longrope", "linear", "gemma3", "nemotron_h", "mamba2", "phi-3", "\udcff\udcfe", "",
    "\x00", "a\x00b", "\x1b[2J", "x" * 5000,
)  # fmt: skip
OTHERS = (ValueType.UINT8, ValueType.UINT16, ValueType.UINT64, ValueType.INT64)
ADDED = ("blk.0.attn_q.bias", "rope_freqs.weight", "blk.0.ssm_in.scale", "blk.1.attn_qkv.weight")
PIECES = ("", "a", "\0", "a\0", "<0x0A>", "<0x-1>", "<0xZZ>", "<", "▁", "</s>", "<|eot_id|>", "\udcff", "x" * 300)


def mutant(lot: random.Random) -> tuple[str, Draft]:
    """A spoiled draft, and what was done to it in words."""
    name = lot.choice(sorted(DRAFTS))
    draft, said = DRAFTS[name](), [name]
    for _ in range(lot.choice((1, 1, 1, 2, 3))):
        spoiler = lot.choice((_key, _key, _new_key, _list, _vocabulary, _tensor, _tensor))
        said.append(spoiler(draft, lot))
    return "; ".join(said), draft


def spoil(data: bytes, lot: random.Random, header: int) -> bytes:
    """A file with bytes of its header changed, left out, put in, or with its end cut off."""
    raw = bytearray(data)
    for _ in range(lot.choice((1, 1, 2, 4))):
        at = lot.choice((lot.randrange(24, 2200), header - lot.randrange(1, 2500), lot.randrange(header)))
        how = lot.randrange(6)
        if how < 3:
            raw[at] = lot.choice((raw[at] ^ (1 << lot.randrange(8)), 0, 0xFF, 0x7F, 0x80, lot.randrange(256)))
        elif how == 3:
            raw[at : at + 8] = lot.choice(EDGES).to_bytes(8, "little")
        elif how == 4:
            del raw[at : at + lot.choice((1, 4, 8))]
        else:
            raw = raw[:at] if lot.random() < 0.3 else raw[:at] + lot.randbytes(lot.choice((1, 4, 8))) + raw[at:]
        header = min(header, len(raw))
        if header < 2600:
            break
    return bytes(raw)


def _value(lot: random.Random) -> Value:
    """Any value of any type."""
    kinds: Sequence[Callable[[], Value]] = (
        lambda: u32(lot.choice(EDGES)),
        lambda: u32(lot.choice(EDGES)),
        lambda: u32(lot.choice(EDGES)),
        lambda: f32(lot.choice(FLOATS)),
        lambda: boolean(lot.random() < 0.5),
        lambda: string(lot.choice(WORDS)),
        lambda: Value(lot.choice(OTHERS), lot.randrange(99)),
        lambda: Value(ValueType.INT32, lot.choice((-1, 0, 1, 2, 64))),
        lambda: array(ValueType.INT32, [lot.choice((0, 1, 2, 4, 32, -1)) for _ in range(lot.choice((0, 1, 2, 3, 4)))]),
        lambda: array(ValueType.UINT32, [lot.choice(EDGES) for _ in range(lot.choice((1, 3, 4)))]),
        lambda: array(ValueType.FLOAT32, [lot.choice(FLOATS) for _ in range(3)]),
        lambda: array(ValueType.BOOL, [lot.random() < 0.5 for _ in range(lot.choice((2, 3, 4)))]),
        lambda: array(ValueType.STRING, [lot.choice(PIECES) for _ in range(3)]),
        lambda: array(ValueType.UINT8, [lot.randrange(256) for _ in range(lot.choice((0, 3, 4, 40)))]),
    )  # fmt: skip
    return lot.choice(kinds)()


def _key(draft: Draft, lot: random.Random) -> str:
    """Change or remove a key that is there."""
    key = lot.choice(sorted(draft.metadata))
    value = draft.metadata[key]
    if lot.random() < 0.1:
        del draft.metadata[key]
        return f"{key} removed"
    if lot.random() < 0.4 and isinstance(value.data, int) and not isinstance(value.data, bool):
        near = (value.data + 1, value.data - 1, value.data * 2, value.data // 2, *EDGES)
        draft.metadata[key] = replace(value, data=max(0, lot.choice(near)) % 2**32)
    elif isinstance(value.data, float):
        draft.metadata[key] = f32(lot.choice(FLOATS))
    else:
        draft.metadata[key] = _value(lot)
    return f"{key} = {_shown(draft.metadata[key])}"


def _new_key(draft: Draft, lot: random.Random) -> str:
    """A key that libllama knows of some architecture."""
    of_tokenizer = lot.random() < 0.3
    key = f"tokenizer.ggml.{lot.choice(TOKENIZER)}" if of_tokenizer else f"{draft.architecture}.{lot.choice(KEYS)}"
    draft.metadata[key] = _value(lot)
    return f"{key} = {_shown(draft.metadata[key])}"


def _list(draft: Draft, lot: random.Random) -> str:
    """A number for each layer, some of them odd."""
    key = f"{draft.architecture}." + lot.choice(
        ("attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_used_count",
         "expert_feed_forward_length")
    )  # fmt: skip
    before = draft.metadata.get(key)
    plain = before.plain() if before is not None else 2
    items = [item for item in plain if isinstance(item, int)] if isinstance(plain, list) else []
    items = items or [plain if isinstance(plain, int) else 2] * lot.choice((2, 3, 4))
    items[lot.randrange(len(items))] = lot.choice((0, 1, 2, 3, 4, 8, 16, 32, 64, 2**30))
    draft.metadata[key] = array(lot.choice((ValueType.INT32, ValueType.UINT32)), [item % 2**31 for item in items])
    return f"{key} = {items}"


def _vocabulary(draft: Draft, lot: random.Random) -> str:
    """The tokens or what stands beside them."""
    key = f"tokenizer.ggml.{lot.choice(('tokens', 'tokens', 'token_type', 'scores', 'merges'))}"
    value = draft.metadata.get(key)
    if value is None or not value.is_array or not len(value.data):  # type: ignore[arg-type]
        return f"no {key}"
    items: list[Any] = list(value.plain())  # type: ignore[arg-type]
    how = lot.randrange(4)
    if how == 0:
        items = items[: lot.choice((0, 1, 11, 12, len(items) - 1))]
    elif how == 1:
        items += items[:1]
    else:
        at = lot.randrange(len(items))
        new = lot.choice(PIECES) if isinstance(items[at], str) else lot.choice((0, 1, 2, 3, 4, 5, 6, 7, -1, 99))
        items[at] = new
    draft.metadata[key] = array(value.type, items)
    return f"{key}: {how}"


def _tensor(draft: Draft, lot: random.Random) -> str:
    """A tensor's shape, type, name or place."""
    if not draft.tensors:
        return "no tensors"
    name = lot.choice(sorted(draft.tensors))
    info = draft.tensors[name]
    how = lot.randrange(7)
    if how == 0:
        shape = list(info.shape)
        at = lot.randrange(len(shape))
        shape[at] = lot.choice((0, 1, 2, shape[at] * 2, shape[at] - 1, shape[at] + 1, shape[at] // 2, *EDGES))
        info.shape = tuple(shape)
    elif how == 1:
        info.shape = lot.choice((info.shape[::-1], (*info.shape, 1), (1, *info.shape), info.shape[:1], ()))[:4]
    elif how == 2:
        info.type = lot.choice((*GGMLType, 4, 5, 31, 36, 43, 99, -1))
    elif how == 3:
        del draft.tensors[name]
    elif how == 4:
        draft.tensors[name.replace("blk.1", "blk.7").replace("norm", "nrom")] = draft.tensors.pop(name)
    elif how == 5:
        draft.tensors[
            lot.choice(("blk.0.attn_q.bias", "rope_freqs.weight", "blk.0.ssm_in.scale", "blk.1.attn_qkv.weight"))
        ] = Info(lot.choice(((1,), (8,), (64,), (64, 64), (128, 64))))
    else:
        info.offset = lot.choice((0, 1, 32, 2**32, 2**63, 2**64 - 32))
    return f"{name}: {how} {info.shape} {info.type} {info.offset}"


def _shown(value: Value) -> str:
    data = value.data.tolist() if isinstance(value.data, np.ndarray) else value.data
    return f"{value.type.name} {str(data)[:60]}"


def write_mutant(lot: random.Random, path: Path) -> str:
    """Write a spoiled file; returns what was done to it, nothing where it came to numbers that no file can hold."""
    try:
        if lot.random() < 0.75:
            said, draft = mutant(lot)
        else:
            said = lot.choice(sorted(DRAFTS))
            draft = DRAFTS[said]()
        header, _ = draft.header()
    except (OverflowError, ValueError):
        return ""
    draft.write(path)
    if ";" not in said:
        path.write_bytes(spoil(path.read_bytes(), lot, len(header)))
        said += "; bytes"
    return said
