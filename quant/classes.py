"""Classes of tensors: what plays the same part in every layer, and is given one type but for the ends of the model.

A recipe speaks of classes, `nemotron fit` chooses by them. The names of tensors are llama.cpp's (src/llama-arch.cpp).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from nemotron_gguf.quant.place import layer_of

Part: TypeAlias = Literal["first", "middle", "last"]
PARTS: tuple[Part, ...] = get_args(Part)

_OUTSIDE = {"token_embd.weight": "embedding", "output.weight": "output"}
_INSIDE = {  # what stands between the layer's number and ".weight"
    "ffn_up_exps": "expert_up",
    "ffn_gate_exps": "expert_up",
    "ffn_gate_up_exps": "expert_up",
    "ffn_down_exps": "expert_down",
    "ffn_up_shexp": "shared_up",
    "ffn_gate_shexp": "shared_up",
    "ffn_down_shexp": "shared_down",
    "ssm_in": "mamba_in",
    "ssm_out": "mamba_out",
    "attn_q": "attention_q",
    "attn_k": "attention_k",
    "attn_v": "attention_v",
    "attn_qkv": "attention_v",
    "attn_output": "attention_output",
    "ffn_up": "dense_up",
    "ffn_gate": "dense_up",
    "ffn_down": "dense_down",
    "ffn_latent_down": "latent",
    "ffn_latent_up": "latent",
}
CLASSES = (*dict.fromkeys((*_INSIDE.values(), *_OUTSIDE.values())), "other")
"""All names, in the order in which they are shown; `other` is any matrix besides, such as those of a draft's block."""

EXPERTS = frozenset({"expert_up", "expert_down"})
"""Classes of which a token uses a part; all others are always used."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The tensors of a class in one part of the model, which have one type."""

    name: str
    part: Part = "middle"

    def __str__(self) -> str:
        """`expert_up`, or `expert_up.first` at the ends."""
        return self.name if self.part == "middle" else f"{self.name}.{self.part}"


def class_of(name: str) -> str:
    """The class of a tensor, by its GGUF name."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    pieces = name.split(".")
    if len(pieces) == 4 and pieces[0] == "blk" and pieces[3] == "weight":
        return _INSIDE.get(pieces[2], "other")
    return "other"


def cells_of(names: Iterable[str]) -> dict[Cell, tuple[str, ...]]:
    """The tensors of each cell, by the names of all tensors that may be quantized; in a stable order.

    The ends of a class are the first and the last eighth of the layers that have it, a layer at least. A class in one
    layer alone has a middle and no ends, a class in two layers ends and no middle.
    """
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_class[class_of(name)].append(name)
    found: dict[Cell, tuple[str, ...]] = {}
    for kind in CLASSES:
        for part, members in _in_parts(by_class.get(kind, [])).items():
            found[Cell(kind, part)] = members
    return found


def _in_parts(names: list[str]) -> dict[Part, tuple[str, ...]]:
    layers = sorted({layer for name in names if (layer := layer_of(name)) is not None})
    n_ends = max(1, len(layers) // 8) if len(layers) > 1 else 0
    first, last = set(layers[:n_ends]), set(layers[len(layers) - n_ends :])
    parts: dict[Part, list[str]] = {part: [] for part in PARTS}
    for name in names:
        layer = layer_of(name)
        parts["first" if layer in first else "last" if layer in last else "middle"].append(name)
    return {part: tuple(members) for part, members in parts.items() if members}
