"""What the rules need to know of a model, read from its GGUF keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nemotron_gguf.models.gguf_values import Value
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.place import Kind, Model, kind_of

LAYERS_OF_70B = {"llama": 80, "deci": 80, "qwen2": 80, "olmo": 80, "jais2": 68}  # architectures that have a 70B
OTHER_RULES = frozenset({"falcon", "glm5-next", "bailingmoe3"})  # architectures with exceptions of their own


def model_of(metadata: Mapping[str, Value], names: Iterable[str], *, has_imatrix: bool) -> Model:
    """The model that a header and its tensors' names describe; raises QuantError where the header does not say."""
    architecture = metadata.get("general.architecture")
    prefix = architecture.plain() if architecture else None
    if not isinstance(prefix, str):
        raise QuantError("the file has no general.architecture; it is no model that can be quantized")
    if prefix in OTHER_RULES:
        raise QuantError(f"models of architecture {prefix} have rules of their own; quantize them with llama-quantize")
    kinds = [kind_of(name) for name in names]
    n_layer = _number(metadata, f"{prefix}.block_count")
    if n_layer < 1:
        raise QuantError(f"the file's {prefix}.block_count is {n_layer}, expected the number of layers")
    n_heads = _number(metadata, f"{prefix}.attention.head_count")
    n_kv_heads = _number(metadata, f"{prefix}.attention.head_count_kv", default=n_heads)
    return Model(
        n_layer=n_layer,
        n_expert=_number(metadata, f"{prefix}.expert_count"),
        gqa=n_heads // n_kv_heads if n_kv_heads else 0,
        n_attn_v=kinds.count(Kind.ATTN_V),
        is_tied=Kind.OUTPUT not in kinds,
        is_70b=LAYERS_OF_70B.get(prefix) == n_layer and (prefix != "llama" or n_heads != n_kv_heads),
        has_imatrix=has_imatrix,
    )


def _number(metadata: Mapping[str, Value], key: str, default: int = 0) -> int:
    """A count; of a list with one for each layer the first layer's, which is the one that llama.cpp asks for."""
    value = metadata.get(key)
    found = default if value is None else value.plain()
    if isinstance(found, list):
        found = found[0] if found else default
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise QuantError(f"the file's {key} is {found!r}, expected a number")
    return found
