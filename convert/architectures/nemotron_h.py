"""Nemotron-H: Mamba-2, attention, dense and expert layers; the tensors of a GGUF file and what each is made of.

Every layer is one mixer behind one norm. Names on the checkpoint's side are without `backbone.` or `model.`; those on
the GGUF side come from the gguf package. Which tensors stay F32, and the shapes that are not the checkpoint's own
(A and D as columns, the Mamba norm by groups, the convolution without its middle axis), are as llama.cpp's converter
writes them (conversion/nemotron.py) and its loader expects them (src/models/nemotron-h.cpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from gguf import MODEL_TENSOR, TENSOR_NAMES

from nemotron_gguf.convert.exp import exp
from nemotron_gguf.convert.hparams import HParams
from nemotron_gguf.convert.layers import Layer
from nemotron_gguf.convert.parts import Part
from nemotron_gguf.convert.plan import Transform
from nemotron_gguf.models.ggml import GGMLType

Floats: TypeAlias = npt.NDArray[np.float32]

PREFIXES = ("backbone.", "model.")  # the Hub's layout, and transformers 5's own
RENAMED = {"mixer.gate.e_score_correction.bias": "mixer.gate.e_score_correction_bias"}
# What has a scale of its own in libllama (src/llama-model.cpp's generic pass, src/models/nemotron-h.cpp's graphs); not
# the embedding, nor the projections into the experts' narrower width, nor the draft head's.
SCALABLE = frozenset({
    MODEL_TENSOR.SSM_IN, MODEL_TENSOR.SSM_OUT, MODEL_TENSOR.ATTN_Q, MODEL_TENSOR.ATTN_K, MODEL_TENSOR.ATTN_V,
    MODEL_TENSOR.ATTN_OUT, MODEL_TENSOR.FFN_UP, MODEL_TENSOR.FFN_DOWN, MODEL_TENSOR.FFN_UP_EXP,
    MODEL_TENSOR.FFN_DOWN_EXP, MODEL_TENSOR.FFN_UP_SHEXP, MODEL_TENSOR.FFN_DOWN_SHEXP, MODEL_TENSOR.OUTPUT,
})  # fmt: skip
IGNORED = (".rotary_emb.inv_freq",)  # a buffer that the model does not use: it has no rotary embedding


def parts(hp: HParams, names: frozenset[str]) -> Iterator[Part]:
    """All tensors of the file, in the order of the layers; `names` are the tensors that the checkpoint has."""
    yield _matrix(MODEL_TENSOR.TOKEN_EMBD, None, "embeddings.weight", hp.vocab, hp.hidden)
    for index, layer in enumerate(hp.layers):
        source = f"layers.{index}"
        yield _vector(MODEL_TENSOR.ATTN_NORM, index, f"{source}.norm.weight", hp.hidden)
        yield from _mixer(hp, layer, index, f"{source}.mixer")
    if has_mtp(hp, names):
        yield from _draft_head(hp, len(hp.layers))
    yield _vector(MODEL_TENSOR.OUTPUT_NORM, None, "norm_f.weight", hp.hidden)
    if "lm_head.weight" in names or not hp.tied:
        yield _matrix(MODEL_TENSOR.OUTPUT, None, "lm_head.weight", hp.vocab, hp.hidden)


def has_mtp(hp: HParams, names: frozenset[str]) -> bool:
    """Whether the file gets a draft head: transformers drops its weights when it saves, and leaves the key."""
    return hp.n_mtp > 0 and any(name.startswith("mtp.") for name in names)


def left_out(hp: HParams, names: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Endings of names that are knowingly left out, and notes that say so, and what was put in."""
    notes: tuple[str, ...] = ()
    if not hp.mamba.conv_bias:
        notes = ("the convolutions have no bias (use_conv_bias): zeros are written, which llama.cpp cannot do without",)
    if hp.mtp_refused and any(name.startswith("mtp.") for name in names):
        return (*IGNORED, *sorted(name for name in names if name.startswith("mtp."))), (
            *notes,
            f"the draft head (multi-token prediction) is left out: {hp.mtp_refused}",
        )
    if hp.n_mtp and not has_mtp(hp, names):
        notes += ("config.json tells of a draft head (multi-token prediction), the checkpoint has none",)
    return IGNORED, notes


def _mixer(hp: HParams, layer: Layer, index: int, source: str) -> Iterator[Part]:
    if layer is Layer.MAMBA:
        return _mamba(hp, index, source)
    if layer is Layer.ATTENTION:
        return _attention(hp, index, source)
    if layer is Layer.MOE:
        return _experts(hp, index, source)
    return _mlp(hp, index, source)


def _mamba(hp: HParams, index: int, source: str) -> Iterator[Part]:
    m = hp.mamba
    yield _matrix(MODEL_TENSOR.SSM_IN, index, f"{source}.in_proj.weight", m.in_proj, hp.hidden)
    yield Part(
        _name(MODEL_TENSOR.SSM_CONV1D, index), (m.conv_channels, m.kernel),
        (f"{source}.conv1d.weight",), (m.conv_channels, 1, m.kernel), as_f32=True,
    )  # fmt: skip
    bias = _vector(MODEL_TENSOR.SSM_CONV1D, index, f"{source}.conv1d.bias", m.conv_channels, ".bias")
    # llama.cpp loads a file without it, and then reads through a null pointer (src/models/mamba-base.cpp)
    yield bias if m.conv_bias else replace(bias, sources=())
    yield _vector(MODEL_TENSOR.SSM_DT, index, f"{source}.dt_bias", m.n_heads, ".bias")
    yield _column(MODEL_TENSOR.SSM_A, index, f"{source}.A_log", m.n_heads, minus_exp=True)
    yield _column(MODEL_TENSOR.SSM_D, index, f"{source}.D", m.n_heads)
    yield Part(
        _name(MODEL_TENSOR.SSM_NORM, index), (m.n_groups, m.inner // m.n_groups),
        (f"{source}.norm.weight",), (m.inner,), as_f32=True,
    )  # fmt: skip
    yield _matrix(MODEL_TENSOR.SSM_OUT, index, f"{source}.out_proj.weight", hp.hidden, m.inner)


def _attention(hp: HParams, index: int, source: str) -> Iterator[Part]:
    a = hp.attention
    queries, keys = a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim
    for tensor, name, rows, columns in (
        (MODEL_TENSOR.ATTN_Q, "q_proj", queries, hp.hidden),
        (MODEL_TENSOR.ATTN_K, "k_proj", keys, hp.hidden),
        (MODEL_TENSOR.ATTN_V, "v_proj", keys, hp.hidden),
        (MODEL_TENSOR.ATTN_OUT, "o_proj", hp.hidden, queries),
    ):
        interleave = a.head_dim if name in ("q_proj", "k_proj") else None
        yield replace(_matrix(tensor, index, f"{source}.{name}.weight", rows, columns), interleave=interleave)
        if a.bias:
            bias = _vector(tensor, index, f"{source}.{name}.bias", rows, ".bias")
            yield replace(bias, transform=_interleaved(a.head_dim)) if interleave else bias


def _mlp(hp: HParams, index: int, source: str) -> Iterator[Part]:
    width = hp.mlp_width
    assert width is not None
    for tensor, name, rows, columns in (
        (MODEL_TENSOR.FFN_UP, "up_proj", width, hp.hidden),
        (MODEL_TENSOR.FFN_DOWN, "down_proj", hp.hidden, width),
    ):
        part = _matrix(tensor, index, f"{source}.{name}.weight", rows, columns)
        yield replace(part, scalable=not hp.mlp_bias)  # libllama ends the process at a scale together with a bias
        if hp.mlp_bias:
            yield _vector(tensor, index, f"{source}.{name}.bias", rows, ".bias")


def _experts(hp: HParams, index: int, source: str) -> Iterator[Part]:
    moe = hp.moe
    assert moe is not None
    inside = moe.latent or hp.hidden  # the width that the routed experts see
    router = Part(
        _name(MODEL_TENSOR.FFN_GATE_INP, index), (moe.n_experts, hp.hidden),
        (f"{source}.gate.weight",), (moe.n_experts, hp.hidden), as_f32=True,
    )  # fmt: skip
    yield router
    correction = f"{source}.gate.e_score_correction_bias"
    yield _vector(MODEL_TENSOR.FFN_EXP_PROBS_B, index, correction, moe.n_experts, ".bias")
    if moe.latent:
        yield _matrix(MODEL_TENSOR.MOE_LATENT_DOWN, index, f"{source}.fc1_latent_proj.weight", moe.latent, hp.hidden)
        yield _matrix(MODEL_TENSOR.MOE_LATENT_UP, index, f"{source}.fc2_latent_proj.weight", hp.hidden, moe.latent)
    yield _stack(MODEL_TENSOR.FFN_UP_EXP, index, source, "up_proj", (moe.n_experts, moe.width, inside))
    yield _stack(MODEL_TENSOR.FFN_DOWN_EXP, index, source, "down_proj", (moe.n_experts, inside, moe.width))
    shared = f"{source}.shared_experts"
    yield _matrix(MODEL_TENSOR.FFN_UP_SHEXP, index, f"{shared}.up_proj.weight", moe.shared_width, hp.hidden)
    yield _matrix(MODEL_TENSOR.FFN_DOWN_SHEXP, index, f"{shared}.down_proj.weight", hp.hidden, moe.shared_width)


def _draft_head(hp: HParams, index: int) -> Iterator[Part]:
    """The draft head's two layers, attention and experts, folded into one block behind the last layer."""
    first, second = "mtp.layers.0", "mtp.layers.1"
    yield _vector(MODEL_TENSOR.NEXTN_ENORM, index, f"{first}.enorm.weight", hp.hidden)
    yield _vector(MODEL_TENSOR.NEXTN_HNORM, index, f"{first}.hnorm.weight", hp.hidden)
    yield _matrix(MODEL_TENSOR.NEXTN_EH_PROJ, index, f"{first}.eh_proj.weight", hp.hidden, 2 * hp.hidden)
    yield _vector(MODEL_TENSOR.ATTN_NORM, index, f"{first}.norm.weight", hp.hidden)
    yield from _attention(hp, index, f"{first}.mixer")
    yield _vector(MODEL_TENSOR.ATTN_POST_NORM, index, f"{second}.norm.weight", hp.hidden)
    router = _name(MODEL_TENSOR.FFN_GATE_INP, index)
    for part in _experts(hp, index, f"{second}.mixer"):
        # llama.cpp's converter does not recognise this one router, and gives it the file's type
        yield replace(part, as_f32=False) if part.name == router else part
    yield _vector(MODEL_TENSOR.NEXTN_SHARED_HEAD_NORM, index, f"{second}.final_layernorm.weight", hp.hidden)


def _name(tensor: MODEL_TENSOR, index: int | None, suffix: str = ".weight") -> str:
    name: str = TENSOR_NAMES[tensor]
    return name.format(bid=index) + suffix


def _matrix(tensor: MODEL_TENSOR, index: int | None, source: str, rows: int, columns: int) -> Part:
    return Part(_name(tensor, index), (rows, columns), (source,), (rows, columns), scalable=tensor in SCALABLE)


def _vector(tensor: MODEL_TENSOR, index: int | None, source: str, size: int, suffix: str = ".weight") -> Part:
    return Part(_name(tensor, index, suffix), (size,), (source,), (size,), as_f32=True)


def _column(tensor: MODEL_TENSOR, index: int, source: str, size: int, minus_exp: bool = False) -> Part:
    """A and D: one value a head, each a row of its own; their names have no suffix."""
    transform = _minus_exp if minus_exp else None
    return Part(_name(tensor, index, ""), (size, 1), (source,), (size,), as_f32=True, transform=transform)


def _stack(tensor: MODEL_TENSOR, index: int, source: str, name: str, shape: tuple[int, int, int]) -> Part:
    sources = tuple(f"{source}.experts.{expert}.{name}.weight" for expert in range(shape[0]))
    stacked = f"{source}.experts.{name}"
    return Part(_name(tensor, index), shape, sources, shape[1:], stacked=stacked, scalable=tensor in SCALABLE)


def _minus_exp(source: GGMLType) -> Transform:
    """A = −exp(A_log), for F16 with its rounding, as llama.cpp's converter does."""
    half = source is GGMLType.F16

    def transform(values: Floats) -> Floats:
        powers = exp(values.astype(np.float16) if half else values)
        return -powers.astype(np.float32)

    return transform


def _interleaved(head_dim: int) -> Callable[[GGMLType], Transform]:
    """A bias in the order of the rows of its weight; one row `(1, n) float32`."""
    return lambda _: (
        lambda values: np.ascontiguousarray(values.reshape(-1, 2, head_dim // 2).swapaxes(1, 2).reshape(values.shape))
    )
