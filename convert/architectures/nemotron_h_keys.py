"""Nemotron-H: the `{arch}.*` keys of a GGUF file, the ones that llama.cpp's converter writes, with its types."""

from __future__ import annotations

from collections.abc import Iterator

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, Keys

from nemotron_gguf.convert.hparams import HParams
from nemotron_gguf.convert.layers import Layer
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, f32, u32


def architecture(hp: HParams) -> str:
    """`general.architecture`."""
    name: str = MODEL_ARCH_NAMES[MODEL_ARCH.NEMOTRON_H_MOE if hp.is_moe else MODEL_ARCH.NEMOTRON_H]
    return name


def keys(hp: HParams, context: int, mtp: bool) -> dict[str, Value]:
    """The architecture's keys; `context` is the supported length in tokens, `mtp` says that a draft head is there."""
    arch = architecture(hp)
    layers = (*hp.layers, None) if mtp else hp.layers  # None: the draft head, attention and experts in one block
    pairs = [*_model(hp, layers, context), *_attention(hp, layers), *_mamba(hp), *_experts(hp)]
    if mtp:
        pairs.append((Keys.LLM.NEXTN_PREDICT_LAYERS, u32(hp.n_mtp)))
    return {key.format(arch=arch): value for key, value in pairs}


def _model(hp: HParams, layers: tuple[Layer | None, ...], context: int) -> Iterator[tuple[str, Value]]:
    yield Keys.LLM.BLOCK_COUNT, u32(len(layers))
    yield Keys.LLM.CONTEXT_LENGTH, u32(context)
    yield Keys.LLM.EMBEDDING_LENGTH, u32(hp.hidden)
    width = hp.moe.width if hp.moe else hp.mlp_width or 0
    widths = [width if layer in (Layer.MOE, Layer.MLP, None) else 0 for layer in layers]
    yield Keys.LLM.FEED_FORWARD_LENGTH, array(ValueType.INT32, widths)
    yield Keys.LLM.VOCAB_SIZE, u32(hp.vocab)


def _attention(hp: HParams, layers: tuple[Layer | None, ...]) -> Iterator[tuple[str, Value]]:
    a = hp.attention
    heads = [a.n_kv_heads if layer in (Layer.ATTENTION, None) else 0 for layer in layers]
    yield Keys.Attention.HEAD_COUNT, u32(a.n_heads)
    yield Keys.Attention.HEAD_COUNT_KV, array(ValueType.INT32, heads)
    yield Keys.Attention.KEY_LENGTH, u32(a.head_dim)
    yield Keys.Attention.VALUE_LENGTH, u32(a.head_dim)
    if hp.rms_eps is not None:
        yield Keys.Attention.LAYERNORM_RMS_EPS, f32(hp.rms_eps)
    # llama.cpp demands this one, whichever name the config has for the model's only epsilon
    eps = hp.eps if hp.eps is not None else hp.rms_eps
    assert eps is not None
    yield Keys.Attention.LAYERNORM_EPS, f32(eps)
    # No layer rotates: the keys are there because llama.cpp reads them of every model
    if hp.rope_theta is not None:
        yield Keys.Rope.FREQ_BASE, f32(hp.rope_theta)
    yield Keys.Rope.DIMENSION_COUNT, u32(hp.hidden // a.n_heads)
    yield Keys.Rope.SCALING_FINETUNED, boolean(False)


def _mamba(hp: HParams) -> Iterator[tuple[str, Value]]:
    m = hp.mamba
    yield Keys.SSM.CONV_KERNEL, u32(m.kernel)
    yield Keys.SSM.STATE_SIZE, u32(m.state)
    yield Keys.SSM.GROUP_COUNT, u32(m.n_groups)
    yield Keys.SSM.INNER_SIZE, u32(m.inner)
    yield Keys.SSM.TIME_STEP_RANK, u32(m.n_heads)


def _experts(hp: HParams) -> Iterator[tuple[str, Value]]:
    moe = hp.moe
    if moe is None:
        return
    yield Keys.LLM.EXPERT_COUNT, u32(moe.n_experts)
    yield Keys.LLM.EXPERT_USED_COUNT, u32(moe.n_used)
    yield Keys.LLM.EXPERT_FEED_FORWARD_LENGTH, u32(moe.width)
    yield Keys.LLM.EXPERT_SHARED_COUNT, u32(1)
    yield Keys.LLM.EXPERT_SHARED_FEED_FORWARD_LENGTH, u32(moe.shared_width)
    yield Keys.LLM.EXPERT_WEIGHTS_NORM, boolean(moe.norm_weights)
    yield Keys.LLM.EXPERT_WEIGHTS_SCALE, f32(moe.scale)
    yield Keys.LLM.EXPERT_GROUP_COUNT, u32(moe.n_groups)
    if moe.n_groups_used is not None:
        yield Keys.LLM.EXPERT_GROUP_USED_COUNT, u32(moe.n_groups_used)
    if moe.latent is not None:
        yield Keys.LLM.MOE_LATENT_SIZE, u32(moe.latent)
