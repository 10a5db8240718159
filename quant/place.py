"""What the rules of a file type look at: the kind of a tensor, where it stands in the model, and what the model is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias


class Kind(Enum):
    """The part that a tensor plays, as far as the choice of its type goes."""

    TOKEN_EMBD = auto()
    OUTPUT = auto()
    ATTN_V = auto()  # and the fused forms that contain it
    ATTN_K = auto()
    ATTN_Q = auto()
    ATTN_OUTPUT = auto()
    FFN_UP = auto()
    FFN_GATE = auto()
    FFN_DOWN = auto()
    OTHER = auto()


FFN = frozenset({Kind.FFN_UP, Kind.FFN_GATE, Kind.FFN_DOWN})

_WHOLE_NAMES = {
    "output.weight": Kind.OUTPUT,
    "token_embd.weight": Kind.TOKEN_EMBD,
    "per_layer_token_embd.weight": Kind.TOKEN_EMBD,
}

_PARTS_OF_NAMES = (  # the first that occurs in the name decides
    ("attn_qkv.weight", Kind.ATTN_V),
    ("attn_kv_b.weight", Kind.ATTN_V),
    ("attn_v.weight", Kind.ATTN_V),
    ("attn_k.weight", Kind.ATTN_K),
    ("attn_q.weight", Kind.ATTN_Q),
    ("attn_output.weight", Kind.ATTN_OUTPUT),
    ("ffn_up", Kind.FFN_UP),
    ("ffn_gate", Kind.FFN_GATE),
    ("ffn_down", Kind.FFN_DOWN),
)


def kind_of(name: str) -> Kind:
    """The kind of a tensor, by its GGUF name."""
    if name in _WHOLE_NAMES:
        return _WHOLE_NAMES[name]
    return next((kind for part, kind in _PARTS_OF_NAMES if part in name), Kind.OTHER)


def layer_of(name: str) -> int | None:
    """The layer that a tensor's name gives, None for the tensors outside the layers."""
    match = re.match(r"blk\.(\d+)", name, re.ASCII)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Model:
    """What the rules ask of a model; numbers as llama.cpp reads them from the header.

    `gqa` is the number of query heads to a key-value head **in layer 0**, zero where that layer has no attention (so
    it is in every hybrid that begins with Mamba). `n_attn_v` counts the tensors of kind ATTN_V.
    """

    n_layer: int
    n_expert: int
    gqa: int
    n_attn_v: int
    is_tied: bool
    is_70b: bool
    has_imatrix: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in its model: `nth` of its kind among those that the rules decided so far, and its layer."""

    kind: Kind
    nth: int
    layer: int | None
    model: Model

    @property
    def depth(self) -> int:
        """How deep in the model: the layer where experts are stacked, otherwise the place among its kind."""
        if self.kind in FFN and self.model.n_expert > 1:
            assert self.layer is not None
            return self.layer
        return self.nth

    @property
    def of(self) -> int:
        """What `depth` counts up to."""
        return self.model.n_attn_v if self.kind is Kind.ATTN_V else self.model.n_layer


Condition: TypeAlias = Callable[[Place], bool]


def always(place: Place) -> bool:  # noqa: ARG001 - a condition
    """Every tensor of the kind."""
    return True


def more_bits(place: Place) -> bool:
    """The first and the last eighth, and every third between."""
    eighth = place.of // 8
    return place.depth < eighth or place.depth >= 7 * place.of // 8 or (place.depth - eighth) % 3 == 2


def first_eighth(place: Place) -> bool:
    """The first eighth of the layers."""
    return place.depth < place.of // 8


def first_eighth_met(place: Place) -> bool:
    """As many tensors of the kind as an eighth of the layers, whichever layers they are in."""
    return place.nth < place.of // 8


def first_sixteenth(place: Place) -> bool:
    """The first sixteenth of the layers."""
    return place.depth < place.of // 16


def middle(place: Place) -> bool:
    """All but the first and the last eighth."""
    return place.of // 8 <= place.depth < 7 * place.of // 8


def first_two(place: Place) -> bool:
    """The first two of the kind."""
    return place.nth < 2


def first_four(place: Place) -> bool:
    """The first four of the kind."""
    return place.nth < 4


def shared_heads(place: Place) -> bool:
    """Four or more query heads to a key-value head: the tensor is small, bits are cheap."""
    return place.model.gqa >= 4


def shared_heads_or_experts(place: Place) -> bool:
    """As `shared_heads`, or four or more experts: attention is a small part of the model."""
    return place.model.gqa >= 4 or place.model.n_expert >= 4


def eight_experts(place: Place) -> bool:
    """A model of the shape of Mixtral 8x7B."""
    return place.model.n_expert == 8


def eight_experts_more_bits(place: Place) -> bool:
    """As `more_bits`, for a model of eight experts."""
    return place.model.n_expert == 8 and more_bits(place)


def without_imatrix(place: Place) -> bool:
    """No importance matrix was given."""
    return not place.model.has_imatrix


def first_eighth_without_imatrix(place: Place) -> bool:
    """As `first_eighth`, when no importance matrix was given."""
    return not place.model.has_imatrix and first_eighth(place)


def first_eighth_with_imatrix(place: Place) -> bool:
    """As `first_eighth`, when an importance matrix was given."""
    return place.model.has_imatrix and first_eighth(place)
