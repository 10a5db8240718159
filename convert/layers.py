"""The layer pattern of a config: what each layer is, in letters (the Hub) or words (transformers 5)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.fields import Fields, brief, wrong

MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS


class Layer(Enum):
    """Kind of a layer, by its letter in `hybrid_override_pattern`."""

    MAMBA = "M"
    ATTENTION = "*"
    MOE = "E"
    MLP = "-"


_WORDS = {
    "mamba": Layer.MAMBA, "linear_attention": Layer.MAMBA,
    "attention": Layer.ATTENTION, "full_attention": Layer.ATTENTION,
    "moe": Layer.MOE, "mlp": Layer.MLP,
}  # fmt: skip


def read_layers(fields: Fields) -> tuple[Layer, ...]:
    """The kind of each layer; ConvertError for an unknown one, none at all, or a length that others contradict."""
    layers = read_pattern(fields, ("hybrid_override_pattern", "layers_block_type", "layer_types"))
    if layers is None:
        raise ConvertError(
            "config.json lacks hybrid_override_pattern or layers_block_type: which layer is of what kind"
        )
    if not 0 < len(layers) <= MAX_LAYERS:
        raise ConvertError(f"the layer pattern has {len(layers)} layers, llama.cpp runs 1 to {MAX_LAYERS}")
    if Layer.MAMBA not in layers:
        raise ConvertError("the layer pattern has no Mamba layer (M), expected a hybrid of Mamba and attention")
    claimed = fields.config.get("num_hidden_layers")
    if claimed is not None and claimed != len(layers):
        raise ConvertError(
            f"config.json contradicts itself: num_hidden_layers is {brief(claimed)},"
            f" the layer pattern has {len(layers)}"
        )
    return layers


def read_pattern(fields: Fields, keys: Sequence[str]) -> tuple[Layer, ...] | None:
    """The layers under the keys that are there, which must agree; None where none is."""
    found: tuple[str, tuple[Layer, ...]] | None = None
    for key in keys:
        value = fields.config.get(key)
        if value is None:
            continue
        layers = tuple(_layer(key, index, item) for index, item in enumerate(_items(key, value)))
        if found and found[1] != layers:
            raise ConvertError(f"config.json contradicts itself: {found[0]} and {key} name different layers")
        found = (key, layers)
    return found[1] if found else None


def _items(key: str, value: object) -> Sequence[object]:
    if not isinstance(value, str | list):
        raise wrong(key, value, "a string of letters or a list of words")
    if len(value) > MAX_LAYERS:
        raise ConvertError(f"{key} has {len(value)} layers, llama.cpp runs up to {MAX_LAYERS}")
    return value


def _layer(key: str, index: int, item: object) -> Layer:
    words = {layer.value: layer for layer in Layer} | _WORDS
    if not isinstance(item, str) or item not in words:
        raise ConvertError(
            f"{key} has {brief(item)} at layer {index}, expected M (Mamba), * (attention), E (experts) or - (dense)"
        )
    return words[item]
