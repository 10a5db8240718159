"""Nemotron-H and its kin with experts: every tensor that llama.cpp asks for, in the shape that it asks for.

Source: src/models/nemotron-h.cpp, whose kind of a layer follows from two lists (no heads of keys and no width: Mamba;
no width: attention; otherwise experts or an MLP), and src/models/mamba-base.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from nemotron_gguf.models.gguf_reader import TensorInfo
from nemotron_gguf.runner.preflight.header import Header, same_shape
from nemotron_gguf.runner.preflight.scales import check_scales

ARCHITECTURES = ("nemotron_h", "nemotron_h_moe")
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]  # outermost dimension first


def check_nemotron_h(header: Header) -> None:
    """Tensors and keys belong together. Says nothing of other architectures."""
    if header.architecture not in ARCHITECTURES:
        return
    sizes = Sizes(header)
    sizes.check()
    known = check_scales(header)
    known |= _check(header, _outside(sizes), {"output.weight": (sizes.n_vocab, sizes.hidden)}, "")
    for layer in range(header.n_layers):
        kind, needed, optional = _layer(sizes, layer)
        known |= _check(header, needed, optional, f"layer {layer} is {kind} by its keys: ", f"blk.{layer}.")
    unknown = header.tensors.keys() - known
    if unknown:
        raise header.fail(f"tensor {min(unknown)} has no place in this model, as its keys describe it")


@dataclass(frozen=True)
class Sizes:
    """The numbers of the architecture, as llama.cpp names and reads them."""

    header: Header

    @cached_property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.header.number("embedding_length")

    @cached_property
    def n_vocab(self) -> int:
        """Tokens, which the rules of the vocabulary have compared with the embedding."""
        return self.header.tensors["token_embd.weight"].shape[0]

    @cached_property
    def heads(self) -> list[int]:
        """Heads of queries of each layer."""
        return self.header.per_layer("attention.head_count")

    @cached_property
    def heads_kv(self) -> list[int]:
        """Heads of keys and values of each layer."""
        return self.header.per_layer("attention.head_count_kv", self.heads)

    @cached_property
    def head(self) -> int:
        """Width of a head; 0 where the first layer is said to have none."""
        if not self.heads[0]:
            return 0
        return self.header.number("attention.key_length", self.hidden // self.heads[0])

    @cached_property
    def widths(self) -> list[int]:
        """Width of each layer's MLP, or of its experts in older files."""
        return self.header.per_layer("feed_forward_length")

    @cached_property
    def expert_widths(self) -> list[int]:
        """Width of each layer's experts, 0 where the width of the layer tells."""
        return self.header.per_layer("expert_feed_forward_length")

    @cached_property
    def experts_used(self) -> list[int]:
        """Experts that a token takes in each layer."""
        return self.header.per_layer("expert_used_count")

    @cached_property
    def n_experts(self) -> int:
        """Experts of a layer."""
        return self.header.number("expert_count", 0)

    @cached_property
    def shared(self) -> int:
        """Width of the shared experts together."""
        return self.header.number("expert_shared_feed_forward_length", 0)

    @cached_property
    def latent(self) -> int:
        """Width in which the experts work, 0 for that of the stream."""
        return self.header.number("moe_latent_size", 0)

    @cached_property
    def inner(self) -> int:
        """Inner width of a Mamba layer."""
        return self.header.number("ssm.inner_size")

    @cached_property
    def state(self) -> int:
        """Numbers of state for each inner one."""
        return self.header.number("ssm.state_size")

    @cached_property
    def kernel(self) -> int:
        """Tokens that the convolution sees."""
        return self.header.number("ssm.conv_kernel")

    @cached_property
    def mamba_heads(self) -> int:
        """Heads of a Mamba layer."""
        return self.header.number("ssm.time_step_rank")

    @cached_property
    def groups(self) -> int:
        """Groups of heads that share their state's input and output."""
        return self.header.number("ssm.group_count")

    def check(self) -> None:
        """What llama.cpp divides by, and what must be there whatever the layers are."""
        inner, heads, groups = self.inner, self.mamba_heads, self.groups
        if not (_divides(heads, inner) and _divides(groups, inner) and _divides(groups, heads)):
            raise self.header.fail(
                f"Mamba's inner size {inner}, {heads} heads and {groups} groups do not divide each other"
            )
        if self.kernel < 2 or self.state < 1:
            raise self.header.fail("Mamba's convolution or state has no size")
        if self.header.key("attention.layer_norm_epsilon") is None:
            raise self.header.fail(f"{self.header.name('attention.layer_norm_epsilon')} is missing")

    def expert_width(self, layer: int, width: int) -> int:
        """Width of a layer's experts, `width` being that of all that a token takes."""
        if self.expert_widths[layer]:
            return self.expert_widths[layer]
        if not self.experts_used[layer]:
            raise self.header.fail(f"layer {layer} has experts, of which none is used and whose width no key tells")
        return width // self.experts_used[layer]


def _divides(part: int, whole: int) -> bool:
    return part > 0 and whole > 0 and whole % part == 0


def _outside(sizes: Sizes) -> Shapes:
    return {"token_embd.weight": (sizes.n_vocab, sizes.hidden), "output_norm.weight": (sizes.hidden,)}


def _layer(sizes: Sizes, layer: int) -> tuple[str, Shapes, Shapes]:
    """A layer's kind in words, the tensors that it needs and those that it may have."""
    if layer >= sizes.header.n_layers - sizes.header.n_predicting:
        return _predicting(sizes, layer)
    norm = {"attn_norm.weight": (sizes.hidden,)}
    if sizes.widths[layer]:
        kind, needed, optional = _experts(sizes, layer) if sizes.n_experts else _mlp(sizes, layer)
    elif sizes.heads_kv[layer]:
        kind, needed, optional = _attention(sizes, layer)
    else:
        kind, needed, optional = _mamba(sizes)
    return kind, {**norm, **needed}, optional


def _mamba(sizes: Sizes) -> tuple[str, Shapes, Shapes]:
    convolved = sizes.inner + 2 * sizes.groups * sizes.state
    return "of Mamba", {
        "ssm_in.weight": (sizes.inner + convolved + sizes.mamba_heads, sizes.hidden),
        "ssm_conv1d.weight": (convolved, sizes.kernel),
        "ssm_conv1d.bias": (convolved,),  # llama.cpp loads without it, and reads through a null pointer
        "ssm_dt.bias": (sizes.mamba_heads,),
        "ssm_a": (sizes.mamba_heads, 1),
        "ssm_d": (sizes.mamba_heads, 1),
        "ssm_norm.weight": (sizes.groups, sizes.inner // sizes.groups),
        "ssm_out.weight": (sizes.hidden, sizes.inner),
    }, {}  # fmt: skip


def _attention(sizes: Sizes, layer: int) -> tuple[str, Shapes, Shapes]:
    queries, keys, hidden = sizes.head * sizes.heads[layer], sizes.head * sizes.heads_kv[layer], sizes.hidden
    together = queries + 2 * keys
    needed: dict[str, tuple[int, ...]] = {"attn_output.weight": (hidden, queries)}
    biases = {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,), "attn_output.bias": (hidden,)}
    if f"blk.{layer}.attn_qkv.weight" in sizes.header.tensors:
        needed["attn_qkv.weight"] = (together, hidden)
        biases["attn_qkv.bias"] = (together,)
    else:
        needed |= {
            f"attn_{part}.weight": (width, hidden) for part, width in zip("qkv", (queries, keys, keys), strict=True)
        }
    return f"of attention ({sizes.heads[layer]} heads, {sizes.heads_kv[layer]} of keys and values)", needed, biases


def _experts(sizes: Sizes, layer: int) -> tuple[str, Shapes, Shapes]:
    hidden, n, shared = sizes.hidden, sizes.n_experts, sizes.shared
    inside, width = sizes.latent or hidden, sizes.expert_width(layer, sizes.widths[layer])
    if not sizes.experts_used[layer]:
        raise sizes.header.fail(f"layer {layer} has experts, of which none is used")
    needed: dict[str, tuple[int, ...]] = {
        "ffn_gate_inp.weight": (n, hidden),
        "exp_probs_b.bias": (n,),
        "ffn_up_exps.weight": (n, width, inside),
        "ffn_down_exps.weight": (n, inside, width),
        "ffn_up_shexp.weight": (shared, hidden),
        "ffn_down_shexp.weight": (hidden, shared),
    }
    latent = {"ffn_latent_down.weight": (inside, hidden), "ffn_latent_up.weight": (hidden, inside)}
    return f"of {n} experts", {**needed, **latent} if sizes.latent else needed, {} if sizes.latent else latent


def _mlp(sizes: Sizes, layer: int) -> tuple[str, Shapes, Shapes]:
    width, hidden = sizes.widths[layer], sizes.hidden
    needed = {"ffn_up.weight": (width, hidden), "ffn_down.weight": (hidden, width)}
    return "an MLP", needed, {"ffn_up.bias": (width,), "ffn_down.bias": (hidden,)}


def _predicting(sizes: Sizes, layer: int) -> tuple[str, Shapes, Shapes]:
    """A layer that predicts further tokens: attention and experts in one."""
    hidden = sizes.hidden
    _, attention, biases = _attention(sizes, layer)
    _, experts, latent = _experts(sizes, layer)
    own = {
        "nextn.enorm.weight": (hidden,),
        "nextn.hnorm.weight": (hidden,),
        "nextn.eh_proj.weight": (hidden, 2 * hidden),
    }
    norms = ("nextn.shared_head_norm.weight", "attn_norm.weight", "post_attention_norm.weight")
    needed = {**own, **dict.fromkeys(norms, (hidden,)), **attention, **experts}
    return "one that predicts", needed, {**biases, **latent}


def _check(header: Header, needed: Shapes, optional: Shapes, what: str, prefix: str = "") -> set[str]:
    """Compare tensors with what is expected of them; returns the names that were."""
    for name, shape in {**needed, **optional}.items():
        found: TensorInfo | None = header.tensors.get(prefix + name)
        if found is None and name in needed:
            raise header.fail(f"{what}tensor {prefix}{name} is missing")
        if found is not None and not same_shape(found.shape, shape):
            raise header.fail(f"{what}tensor {prefix}{name} is of shape {list(found.shape)}, expected {list(shape)}")
    return {prefix + name for name in (*needed, *optional)}
