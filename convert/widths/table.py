"""Which side of which tensor has which width: Nemotron-H's facts, by the tensors' GGUF names.

A matrix reads its columns and writes its rows. Source of the shapes: llama.cpp's src/models/nemotron-h.cpp. The inner
widths of Mamba and attention, and the vocabulary, are nobody's padding: other sizes hang on them (groups of the Mamba
norm, heads, tokens).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nemotron_gguf.models.widths import Dimension

ARCHITECTURES = ("nemotron_h", "nemotron_h_moe")

_HIDDEN, _EXPERT, _SHARED, _LATENT, _MLP = Dimension
_LAYER = re.compile(r"blk\.\d+\.", re.ASCII)


@dataclass(frozen=True)
class Sides:
    """The widths of a tensor: None for a side that never changes. A vector has `columns` alone.

    `halves` is how many equal parts the columns have, each of that width. `writes` says that what it makes is added to
    the residual stream (or begins it), `norm` that it weighs a norm of the stream.
    """

    rows: Dimension | None = None
    columns: Dimension | None = None
    halves: int = 1
    writes: bool = False
    norm: bool = False


_NORM = Sides(columns=_HIDDEN, norm=True)
_READS = Sides(columns=_HIDDEN)
_WRITES = Sides(rows=_HIDDEN, writes=True)
_TABLE = {
    "token_embd.weight": Sides(columns=_HIDDEN, writes=True),
    "output.weight": _READS,
    "output_norm.weight": _NORM,
    "attn_norm.weight": _NORM,
    "ssm_in.weight": _READS,
    "ssm_out.weight": _WRITES,
    "attn_q.weight": _READS,
    "attn_k.weight": _READS,
    "attn_v.weight": _READS,
    "attn_qkv.weight": _READS,
    "attn_output.weight": _WRITES,
    "attn_output.bias": Sides(columns=_HIDDEN, writes=True),
    "ffn_up.weight": Sides(_MLP, _HIDDEN),
    "ffn_up.bias": Sides(columns=_MLP),
    "ffn_down.weight": Sides(_HIDDEN, _MLP, writes=True),
    "ffn_down.bias": Sides(columns=_HIDDEN, writes=True),
    "ffn_gate_inp.weight": _READS,
    "ffn_up_exps.weight": Sides(_EXPERT, _HIDDEN),
    "ffn_down_exps.weight": Sides(_HIDDEN, _EXPERT, writes=True),
    "ffn_up_shexp.weight": Sides(_SHARED, _HIDDEN),
    "ffn_down_shexp.weight": Sides(_HIDDEN, _SHARED, writes=True),
    "ffn_latent_down.weight": Sides(_LATENT, _HIDDEN),
    "ffn_latent_up.weight": Sides(_HIDDEN, _LATENT, writes=True),
    # the block that predicts further tokens: the stream begins anew, out of a token and of the model's last state
    "nextn.enorm.weight": _NORM,
    "nextn.hnorm.weight": _NORM,
    "nextn.eh_proj.weight": Sides(_HIDDEN, _HIDDEN, halves=2, writes=True),
    "post_attention_norm.weight": _NORM,
    "nextn.shared_head_norm.weight": _NORM,
}
_IN_LATENT = {  # where experts work in a width of their own
    "ffn_up_exps.weight": Sides(_EXPERT, _LATENT),
    "ffn_down_exps.weight": Sides(_LATENT, _EXPERT),
}
_UNCHANGED = Sides()
_UNCHANGED_NAMES = frozenset({
    "ssm_conv1d.weight", "ssm_conv1d.bias", "ssm_dt.bias", "ssm_a", "ssm_d", "ssm_norm.weight", "exp_probs_b.bias",
    "attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias",
})  # fmt: skip

TRIMMABLE = {  # the matrix that reads the neurons, and the widths that neurons can be taken from
    Dimension.EXPERT: "ffn_down_exps.weight",
    Dimension.SHARED: "ffn_down_shexp.weight",
    Dimension.MLP: "ffn_down.weight",
}
HEAD_NORMS = ("output_norm.weight", "nextn.shared_head_norm.weight")
"""The norms before the output matrix."""


def sides(name: str, *, latent: bool) -> Sides | None:
    """The widths of a tensor, None for a name that the architecture does not have.

    `latent` says that the model's experts work in a latent width.
    """
    part = part_of(name)
    if latent and part in _IN_LATENT:
        return _IN_LATENT[part]
    if part in _UNCHANGED_NAMES or part.endswith((".scale", ".input_scale")):
        return _UNCHANGED
    return _TABLE.get(part)


def part_of(name: str) -> str:
    """A tensor's name without its layer."""
    return _LAYER.sub("", name, count=1)


def reader_of(name: str) -> str | None:
    """The matrix that reads the neurons of a tensor (itself, where it does), None for one without neurons."""
    part = part_of(name)
    reader = part.replace("_up", "_down", 1).replace(".bias", ".weight")
    return name[: len(name) - len(part)] + reader if reader in TRIMMABLE.values() else None
