"""config.json of the Nemotron-H family as one frozen value, every assumption checked.

Two layouts are read: the Hub's (`hybrid_override_pattern`, a letter a layer) and what transformers 5 writes
(`layers_block_type` or `layer_types`, a word a layer).
"""

from __future__ import annotations

from dataclasses import dataclass

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.fields import Fields, brief
from nemotron_gguf.convert.layers import MAX_LAYERS, Layer, read_layers, read_pattern
from nemotron_gguf.convert.source.json_files import Object

ARCHITECTURE = "NemotronHForCausalLM"
MODEL_TYPE = "nemotron_h"
NO_LIMIT = 1e6  # seconds of a Mamba time step that no model takes; checkpoints write Infinity or 1e30
MAX_EXPERTS = 1024  # llama.cpp's LLAMA_MAX_EXPERTS


_MTP = (Layer.ATTENTION, Layer.MOE)  # the one pattern of a draft head that llama.cpp has a graph for


@dataclass(frozen=True)
class Mamba:
    """Sizes of the Mamba-2 layers."""

    n_heads: int
    head_dim: int
    state: int
    n_groups: int
    kernel: int
    conv_bias: bool

    @property
    def inner(self) -> int:
        """Inner width: heads × head width. The config's `expand` is not used by the model."""
        return self.n_heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.inner + 2 * self.n_groups * self.state

    @property
    def in_proj(self) -> int:
        """Rows of the input projection: z, x, B, C and dt."""
        return self.inner + self.conv_channels + self.n_heads


@dataclass(frozen=True)
class Attention:
    """Sizes of the attention layers, which have no rotary embedding."""

    n_heads: int
    n_kv_heads: int
    head_dim: int
    bias: bool


@dataclass(frozen=True)
class Moe:
    """Sizes and routing of the layers of experts. `latent` is the width that experts work in, None for the model's."""

    n_experts: int
    n_used: int
    width: int
    shared_width: int
    n_groups: int
    n_groups_used: int | None
    norm_weights: bool
    scale: float
    latent: int | None


@dataclass(frozen=True)
class HParams:
    """What the architecture needs to know of a config. Exactly one of `moe` and `mlp_width` is set, or neither."""

    layers: tuple[Layer, ...]
    hidden: int
    vocab: int
    context: int | None
    rms_eps: float | None
    eps: float | None
    rope_theta: float | None
    tied: bool
    mamba: Mamba
    attention: Attention
    moe: Moe | None
    mlp_width: int | None
    mlp_bias: bool
    n_mtp: int
    mtp_refused: str | None

    @property
    def is_moe(self) -> bool:
        """Whether the feed-forward layers are experts, told by the layer pattern alone."""
        return self.moe is not None


def read_hparams(config: Object) -> HParams:
    """Read and check a config; raises ConvertError for what is missing, absurd, contradictory or not supported."""
    _check_family(config)
    fields = Fields(config)
    layers = read_layers(fields)
    _check_fixed(fields)
    is_moe = Layer.MOE in layers
    if is_moe and Layer.MLP in layers:
        raise ConvertError("the layer pattern has both experts (E) and dense layers (-), which llama.cpp cannot run")
    hidden = fields.size("hidden_size")
    n_mtp, mtp_refused = _mtp(fields) if is_moe else (0, None)
    attention = _attention(fields, hidden)
    return HParams(
        layers=layers,
        hidden=hidden,
        vocab=fields.size("vocab_size", maximum=1 << 22),
        context=fields.size("max_position_embeddings", maximum=1 << 31)
        if fields.has("max_position_embeddings")
        else None,
        **_epsilons(fields),
        rope_theta=fields.number("rope_theta") if fields.has("rope_theta") else None,
        tied=fields.flag("tie_word_embeddings", default=False),
        mamba=_mamba(fields),
        attention=attention,
        moe=_moe(fields) if is_moe else None,
        mlp_width=fields.size("intermediate_size") if Layer.MLP in layers else None,
        mlp_bias=_mlp_bias(fields, is_moe),
        n_mtp=n_mtp,
        mtp_refused=mtp_refused,
    )


def _check_family(config: Object) -> None:
    names = config.get("architectures")
    named = names[0] if isinstance(names, list) and names else None
    if named is None and config.get("model_type") == MODEL_TYPE:
        return
    if named != ARCHITECTURE:
        found = brief(named if named is not None else config.get("model_type"))
        raise ConvertError(
            f"config.json names the architecture {found}, expected {ARCHITECTURE}"
            " (Nemotron 3, Nemotron Nano v2, Nemotron-H); other models are not converted"
        )


def _check_fixed(fields: Fields) -> None:
    """Values that change the arithmetic and that neither a GGUF key nor llama.cpp's graph can express."""
    graph = "llama.cpp's graph of this architecture has no other"
    fields.only("mlp_hidden_act", "relu2", graph)
    fields.only("mamba_hidden_act", "silu", graph)
    fields.only("mamba_proj_bias", False, graph)
    fields.only("use_bias", False, graph)
    fields.only("scoring_func", "sigmoid", graph)
    limit = fields.config.get("time_step_limit")
    if isinstance(limit, list) and len(limit) == 2 and _clamps(limit):
        raise ConvertError(f"config.json has time_step_limit = {brief(limit)}, expected [0.0, Infinity]: {graph}")


def _clamps(limit: list[object]) -> bool:
    low, high = limit
    return low not in (0, 0.0) or (isinstance(high, int | float) and high < NO_LIMIT)


def _attention(fields: Fields, hidden: int) -> Attention:
    n_heads = fields.size("num_attention_heads")
    n_kv_heads = fields.size("num_key_value_heads", default=n_heads)
    if n_heads % n_kv_heads:
        raise ConvertError(
            f"num_attention_heads is {n_heads}, expected a multiple of num_key_value_heads, {n_kv_heads}"
        )
    # The key says nothing of the heads' real width, but llama.cpp's converter writes it and it must be whole.
    if hidden % n_heads and hidden < n_heads:
        raise ConvertError(f"hidden_size is {hidden}, expected at least num_attention_heads, {n_heads}")
    head_dim = fields.size("head_dim", "attention_head_dim", maximum=1 << 16)
    if head_dim % 2:
        raise ConvertError(f"head_dim is {head_dim}, expected an even number: llama.cpp's files interleave its halves")
    return Attention(n_heads, n_kv_heads, head_dim, fields.flag("attention_bias", default=False))


def _mamba(fields: Fields) -> Mamba:
    mamba = Mamba(
        n_heads=fields.size("mamba_num_heads", maximum=1 << 16),
        head_dim=fields.size("mamba_head_dim", maximum=1 << 16),
        state=fields.size("ssm_state_size", maximum=1 << 16),
        n_groups=fields.size("n_groups", "mamba_n_groups", maximum=1 << 16),
        kernel=fields.size("conv_kernel", "mamba_d_conv", minimum=2, maximum=1 << 10),
        conv_bias=fields.flag("use_conv_bias", default=True),
    )
    if mamba.n_heads % mamba.n_groups:
        raise ConvertError(f"mamba_num_heads is {mamba.n_heads}, expected a multiple of n_groups, {mamba.n_groups}")
    return mamba


def _moe(fields: Fields) -> Moe:
    n_experts = fields.size("n_routed_experts", "num_local_experts", maximum=MAX_EXPERTS)
    n_used = fields.size("num_experts_per_tok", maximum=MAX_EXPERTS)
    n_groups = fields.size("n_group", default=1, maximum=MAX_EXPERTS)
    n_groups_used = fields.size("topk_group", maximum=n_groups) if fields.has("topk_group") else None
    if n_used > n_experts:
        raise ConvertError(f"num_experts_per_tok is {n_used}, expected at most n_routed_experts, {n_experts}")
    if n_experts % n_groups:
        raise ConvertError(f"n_routed_experts is {n_experts}, expected a multiple of n_group, {n_groups}")
    fields.only("n_shared_experts", 1, "llama.cpp's graph of this architecture has one shared expert")
    return Moe(
        n_experts=n_experts,
        n_used=n_used,
        width=fields.size("moe_intermediate_size"),
        shared_width=fields.size("moe_shared_expert_intermediate_size"),
        n_groups=n_groups,
        n_groups_used=n_groups_used,
        norm_weights=fields.flag("norm_topk_prob"),
        scale=fields.number("routed_scaling_factor"),
        latent=fields.size("moe_latent_size") if fields.has("moe_latent_size") else None,
    )


def _mlp_bias(fields: Fields, is_moe: bool) -> bool:
    if is_moe:
        fields.only("mlp_bias", False, "llama.cpp's experts have no bias")
    fields.only("sliding_window", False, "llama.cpp's graph of this architecture attends to everything")
    return fields.flag("mlp_bias", default=False)


def _epsilons(fields: Fields) -> dict[str, float | None]:
    """The epsilon of the norms under the two keys that llama.cpp's converter writes; the model has one."""
    rms, plain = ("rms_norm_eps", "norm_eps"), ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
    fields.find(*rms, *plain)
    return {
        "rms_eps": fields.number(*rms) if fields.has(*rms) else None,
        "eps": fields.number(*plain) if fields.has(*plain) else None,
    }


def _mtp(fields: Fields) -> tuple[int, str | None]:
    """Draft layers (multi-token prediction), and why they are left out where llama.cpp has no graph for them."""
    count = fields.size("num_nextn_predict_layers", minimum=0, maximum=MAX_LAYERS, default=0)
    if count == 0:
        return 0, None
    pattern = read_pattern(fields, ("mtp_hybrid_override_pattern", "mtp_layers_block_type")) or _MTP
    if count > 1 or pattern != _MTP:
        letters = "".join(layer.value for layer in pattern)
        return 0, f"it has {count} layers of pattern {letters!r}, llama.cpp runs one of '*E'"
    return count, None
