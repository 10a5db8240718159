"""Small models of several architectures as drafts: every key and tensor can be spoiled before the file is written.

The bytes are put together here by hand, not by the program's own writer, which would refuse to write most of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, f32, string, u32

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
HIDDEN, WIDTH, SHARED, N_EXPERTS, INNER, STATE, GROUPS, HEADS, HEAD, LATENT = 64, 32, 32, 4, 64, 16, 2, 4, 16, 32
CONVOLVED = INNER + 2 * GROUPS * STATE


@dataclass
class Info:
    """A tensor's entry; `offset` is where it should begin, None for right after the one before."""

    shape: tuple[int, ...]
    type: int = GGMLType.F32
    offset: int | None = None
    bytes: int | None = None


@dataclass
class Draft:
    """A file before it is written; `shape` is outermost dimension first, as everywhere in the program."""

    architecture: str
    metadata: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, Info] = field(default_factory=dict)
    alignment: int = 32

    def set(self, **keys: Value | None) -> Draft:
        """Change keys: `a__b` stands for `a.b`, a leading `A__` for the architecture; None removes one."""
        for name, value in keys.items():
            key = name.replace("__", ".")
            key = f"{self.architecture}.{key[2:]}" if key.startswith("A.") else key
            if value is None:
                self.metadata.pop(key, None)
            else:
                self.metadata[key] = value
        return self

    def drop(self, *names: str) -> Draft:
        """Leave out the tensors that begin so."""
        self.tensors = {name: info for name, info in self.tensors.items() if not name.startswith(names)}
        return self

    def shape(self, name: str, *shape: int) -> Draft:
        """Give a tensor another shape, or add one."""
        self.tensors[name] = Info(shape)
        return self

    def type(self, name: str, kind: int) -> Draft:
        """Give a tensor another type."""
        self.tensors[name].type = kind
        return self

    def header(self) -> tuple[bytes, int]:
        """The header, padded, and the bytes of data that belong behind it."""
        out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata)))
        for key, value in self.metadata.items():
            out += text(key) + value.encode()
        at = 0
        for name, info in self.tensors.items():
            out += text(name) + struct.pack("<I", len(info.shape))
            out += b"".join(struct.pack("<Q", size % 2**64) for size in reversed(info.shape))
            out += struct.pack("<IQ", info.type % 2**32, (at if info.offset is None else info.offset) % 2**64)
            nbytes = nbytes_of(info) if info.bytes is None else info.bytes
            at += nbytes + -nbytes % self.alignment
        return bytes(out) + bytes(-len(out) % self.alignment), at

    def write(self, path: Path) -> Path:
        """The file, all of its weights zero."""
        header, data = self.header()
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + min(data, 64 << 20))
        return path


def text(name: str) -> bytes:
    """A string of the format."""
    raw = name.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def nbytes_of(info: Info) -> int:
    """Bytes of a tensor, whatever its shape and type are."""
    rows = 1
    for size in info.shape[:-1]:
        rows *= size
    try:
        kind = GGMLType(info.type)
    except ValueError:
        return 0
    return max(0, rows * ((info.shape or (1,))[-1] // kind.block_size * kind.type_size))


def letters() -> list[str]:
    """GPT-2's printable letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def bpe() -> dict[str, Value]:
    """A vocabulary of GPT-2's kind with one token a byte."""
    words = SPECIAL + letters()
    return {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string("pixtral"),
        "tokenizer.ggml.tokens": array(ValueType.STRING, words),
        "tokenizer.ggml.token_type": array(ValueType.INT32, [3] * len(SPECIAL) + [1] * 256),
        "tokenizer.ggml.merges": array(ValueType.STRING, ["h e", "l l"]),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.eos_token_id": u32(4),
        "tokenizer.ggml.add_bos_token": boolean(False),
    }


def sentencepiece() -> dict[str, Value]:
    """A vocabulary of SentencePiece's kind: byte tokens and few words."""
    words = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁hello", "▁", "h", "e", "l", "o"]
    return {
        "tokenizer.ggml.model": string("llama"),
        "tokenizer.ggml.tokens": array(ValueType.STRING, words),
        "tokenizer.ggml.scores": array(ValueType.FLOAT32, [-float(index) for index in range(len(words))]),
        "tokenizer.ggml.token_type": array(ValueType.INT32, [3] * len(SPECIAL) + [6] * 256 + [1] * 6),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.eos_token_id": u32(2),
    }


def _draft(architecture: str, keys: Mapping[str, Any], vocabulary: dict[str, Value]) -> Draft:
    """A draft with the usual keys, the outer tensors, and a template."""
    n_vocab = len(vocabulary["tokenizer.ggml.tokens"].data)  # type: ignore[arg-type]
    draft = Draft(architecture, {"general.architecture": string(architecture), "general.name": string("Tiny")})
    usual = {"context_length": 1024, "embedding_length": HIDDEN, "vocab_size": n_vocab, "attention.head_count": HEADS}
    for key, value in {**usual, **keys, "attention.layer_norm_rms_epsilon": 1e-5}.items():
        number = f32(value) if isinstance(value, float) else value if isinstance(value, Value) else None
        draft.metadata[f"{architecture}.{key}"] = number or (
            array(ValueType.INT32, value) if isinstance(value, list) else u32(value)
        )
    draft.metadata |= vocabulary
    draft.metadata["tokenizer.chat_template"] = string("{% for m in messages %}{{ m.content }}{% endfor %}")
    draft.shape("token_embd.weight", n_vocab, HIDDEN).shape("output_norm.weight", HIDDEN)
    return draft.shape("output.weight", n_vocab, HIDDEN)


def _mamba(draft: Draft, layer: int) -> None:
    at = f"blk.{layer}."
    draft.shape(f"{at}attn_norm.weight", HIDDEN).shape(f"{at}ssm_in.weight", INNER + CONVOLVED + HEADS, HIDDEN)
    draft.shape(f"{at}ssm_conv1d.weight", CONVOLVED, 4).shape(f"{at}ssm_conv1d.bias", CONVOLVED)
    draft.shape(f"{at}ssm_dt.bias", HEADS).shape(f"{at}ssm_a", HEADS, 1).shape(f"{at}ssm_d", HEADS, 1)
    draft.shape(f"{at}ssm_norm.weight", GROUPS, INNER // GROUPS).shape(f"{at}ssm_out.weight", HIDDEN, INNER)


def _attention(draft: Draft, layer: int) -> None:
    at = f"blk.{layer}."
    draft.shape(f"{at}attn_norm.weight", HIDDEN).shape(f"{at}attn_q.weight", HEADS * HEAD, HIDDEN)
    draft.shape(f"{at}attn_k.weight", 2 * HEAD, HIDDEN).shape(f"{at}attn_v.weight", 2 * HEAD, HIDDEN)
    draft.shape(f"{at}attn_output.weight", HIDDEN, HEADS * HEAD)


def _experts(draft: Draft, layer: int, inside: int) -> None:
    at = f"blk.{layer}."
    draft.shape(f"{at}attn_norm.weight", HIDDEN).shape(f"{at}ffn_gate_inp.weight", N_EXPERTS, HIDDEN)
    draft.shape(f"{at}exp_probs_b.bias", N_EXPERTS)
    if inside != HIDDEN:
        draft.shape(f"{at}ffn_latent_down.weight", inside, HIDDEN).shape(f"{at}ffn_latent_up.weight", HIDDEN, inside)
    draft.shape(f"{at}ffn_up_exps.weight", N_EXPERTS, WIDTH, inside)
    draft.shape(f"{at}ffn_down_exps.weight", N_EXPERTS, inside, WIDTH)
    draft.shape(f"{at}ffn_up_shexp.weight", SHARED, HIDDEN).shape(f"{at}ffn_down_shexp.weight", HIDDEN, SHARED)


_MAMBA_KEYS = {
    "ssm.conv_kernel": 4, "ssm.inner_size": INNER, "ssm.state_size": STATE, "ssm.time_step_rank": HEADS,
    "ssm.group_count": GROUPS, "attention.key_length": HEAD, "attention.value_length": HEAD,
    "rope.dimension_count": HEAD, "attention.layer_norm_epsilon": 1e-5,
}  # fmt: skip
_EXPERT_KEYS = {
    "expert_count": N_EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": WIDTH,
    "expert_shared_feed_forward_length": SHARED, "expert_shared_count": 1, "expert_gating_func": 2,
    "expert_weights_scale": 1.0, "expert_weights_norm": boolean(True),
}  # fmt: skip


def moe() -> Draft:
    """A Nemotron-H with one layer of Mamba, one of attention and one of experts."""
    lists = {"block_count": 3, "feed_forward_length": [0, 0, WIDTH], "attention.head_count_kv": [0, 2, 0]}
    draft = _draft("nemotron_h_moe", {**_MAMBA_KEYS, **_EXPERT_KEYS, **lists}, bpe())
    _mamba(draft, 0)
    _attention(draft, 1)
    _experts(draft, 2, HIDDEN)
    return draft


def mtp() -> Draft:
    """One whose experts work in a smaller width, with a layer that predicts a second token."""
    lists = {"block_count": 4, "feed_forward_length": [0, 0, WIDTH, WIDTH], "attention.head_count_kv": [0, 2, 0, 2]}
    own = {"moe_latent_size": LATENT, "nextn_predict_layers": 1}
    draft = _draft("nemotron_h_moe", {**_MAMBA_KEYS, **_EXPERT_KEYS, **lists, **own}, bpe())
    _mamba(draft, 0)
    _attention(draft, 1)
    _experts(draft, 2, LATENT)
    for name in ("nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm", "post_attention_norm"):
        draft.shape(f"blk.3.{name}.weight", HIDDEN)
    draft.shape("blk.3.nextn.eh_proj.weight", HIDDEN, 2 * HIDDEN)
    _attention(draft, 3)
    _experts(draft, 3, LATENT)
    return draft


def dense() -> Draft:
    """A Nemotron-H without experts."""
    lists = {"block_count": 3, "feed_forward_length": [0, 0, WIDTH], "attention.head_count_kv": [0, 2, 0]}
    draft = _draft("nemotron_h", {**_MAMBA_KEYS, **lists}, bpe())
    _mamba(draft, 0)
    _attention(draft, 1)
    draft.shape("blk.2.attn_norm.weight", HIDDEN)
    return draft.shape("blk.2.ffn_up.weight", WIDTH, HIDDEN).shape("blk.2.ffn_down.weight", HIDDEN, WIDTH)


def llama() -> Draft:
    """A Llama of two layers."""
    sizes = {"block_count": 2, "feed_forward_length": WIDTH, "attention.head_count_kv": 2, "rope.dimension_count": HEAD}
    draft = _draft("llama", {**sizes, "rope.freq_base": 10000.0}, sentencepiece())
    for layer in range(2):
        _attention(draft, layer)
        at = f"blk.{layer}."
        draft.shape(f"{at}ffn_norm.weight", HIDDEN).shape(f"{at}ffn_gate.weight", WIDTH, HIDDEN)
        draft.shape(f"{at}ffn_up.weight", WIDTH, HIDDEN).shape(f"{at}ffn_down.weight", HIDDEN, WIDTH)
    return draft


def gemma3() -> Draft:
    """A Gemma 3 of two layers: norms on both sides, a sliding window, a tied output."""
    draft = llama()
    draft.metadata = {
        key.replace("llama.", "gemma3.") if key.startswith("llama.") else key: value
        for key, value in draft.metadata.items()
    }
    draft.architecture = "gemma3"
    draft.set(general__architecture=string("gemma3"), A__attention__sliding_window=u32(32))
    draft.set(A__attention__key_length=u32(HEAD), A__attention__value_length=u32(HEAD))
    for layer in range(2):
        at = f"blk.{layer}."
        draft.shape(f"{at}attn_q_norm.weight", HEAD).shape(f"{at}attn_k_norm.weight", HEAD)
        draft.shape(f"{at}post_attention_norm.weight", HIDDEN).shape(f"{at}post_ffw_norm.weight", HIDDEN)
    return draft.drop("output.weight")


DRAFTS = {"moe": moe, "mtp": mtp, "dense": dense, "llama": llama, "gemma3": gemma3}
