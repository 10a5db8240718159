"""Which tensor gets which type: a plain function from a tensor's shape and place to its type, and what overrules it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import AUTO, FileType
from nemotron_gguf.quant.options import QuantizeOptions
from nemotron_gguf.quant.place import FFN, Kind, Model, Place, kind_of, layer_of

NEVER_QUANTIZED = (  # parts of names: norms, routers, convolutions and other small tensors that matter
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "ssm_conv1d", "shortconv.conv.weight"),
    *("altup", "laurel", "per_layer_model_proj", "indexer.k_proj.weight", "indexer.q_proj.weight"),
    *("time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight"),
    *("time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight"),
    *("time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight"),
    *("time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight"),
    *(".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger"),
    *("a.rvq.codebook", "mm.a.code_embd"),
)
NEVER_QUANTIZED_NAMES = frozenset({"position_embd.weight", "token_types.weight"})

FALLBACKS = {  # where a row is no multiple of the block (left: 256 weights, Q2_0 64; right: 32)
    **dict.fromkeys((T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_XS), T.IQ4_NL),
    **dict.fromkeys((T.Q2_0, T.Q2_K, T.Q3_K, T.TQ1_0, T.TQ2_0), T.Q4_0),
    T.Q4_K: T.Q5_0,
    T.Q5_K: T.Q5_1,
    T.Q6_K: T.Q8_0,
}

GARBAGE_WITHOUT_IMPORTANCE = frozenset({T.IQ3_XXS, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ1_M, T.IQ1_S})


def recipe(file_type: FileType, shape: tuple[int, ...], place: Place) -> T:
    """The type that a mixture wants for a tensor of row-major `shape` at `place`; its rows may not fit it yet."""
    if place.kind is Kind.OUTPUT or (place.kind is Kind.TOKEN_EMBD and place.model.is_tied):
        return T.Q8_0 if shape[-1] % file_type.base.block_size else file_type.output
    if file_type.unstacked is not None:
        return file_type.base if len(shape) > 2 else file_type.unstacked
    chosen = file_type.base
    for kind, condition, kind_type in file_type.rules:
        if kind is place.kind and condition(place):
            chosen = kind_type
            break
    if place.kind is Kind.ATTN_V and place.model.is_70b and not file_type.very_low and chosen in (T.Q3_K, T.Q4_K):
        return T.Q5_K
    return chosen


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of a tensor: its type, and the one that was wanted where its rows did not fit."""

    type: T
    wanted: T


def choose(
    tensors: Iterable[tuple[str, tuple[int, ...], T]], model: Model, options: QuantizeOptions
) -> Iterator[Choice]:
    """The choice for each (name, shape, present type), in the order of the file: some rules count.

    Shapes are row-major without leading ones. Raises QuantError where no type fits or a layer is not the model's.
    """
    met: Counter[Kind] = Counter()
    for name, shape, present in tensors:
        if not is_quantizable(name, shape, options):
            yield Choice(present, present)
            continue
        kind = kind_of(name)
        wanted = overruled(name, kind, model, options)
        if wanted is None:
            wanted = recipe(options.type, shape, _place(name, kind, met[kind], model))
            met[kind] += 1
        yield Choice(fitting(name, wanted, shape[-1]), wanted)


def is_quantizable(name: str, shape: tuple[int, ...], options: QuantizeOptions) -> bool:
    """Whether a tensor may change its type at all: matrices of weights, less the small and delicate ones."""
    if len(shape) < 2 or not name.endswith("weight") or name in NEVER_QUANTIZED_NAMES:
        return False
    if options.leave_output_tensor and name == "output.weight":
        return False
    return not any(part in name for part in NEVER_QUANTIZED)


def overruled(name: str, kind: Kind, model: Model, options: QuantizeOptions) -> T | None:
    """The type that the options give a tensor whatever the mixture says, None where they leave it to the mixture."""
    named = next((kind_type for pattern, kind_type in options.tensor_types if pattern.search(name)), None)
    if kind is Kind.TOKEN_EMBD and options.token_embedding_type is not None:
        if named is None or name == "token_embd.weight":
            return options.token_embedding_type
    elif kind is Kind.OUTPUT and options.output_tensor_type is not None:
        return options.output_tensor_type
    base = options.type.base
    if not base.is_quantized and options.type is not AUTO:
        return base
    if named is not None:
        return named
    if options.pure:
        return base
    if kind is Kind.TOKEN_EMBD and model.is_tied:
        return options.output_tensor_type
    return None


def _place(name: str, kind: Kind, nth: int, model: Model) -> Place:
    layer = layer_of(name)
    if kind in FFN and model.n_expert > 1 and (layer is None or layer >= model.n_layer):
        raise QuantError(f"tensor {name} belongs to none of the model's {model.n_layer} layers; convert it again")
    return Place(kind, nth, layer, model)


def fitting(name: str, wanted: T, n_per_row: int) -> T:
    """The type itself where rows are a multiple of its block, else the nearest that fits, else F16."""
    if n_per_row % wanted.block_size == 0:
        return wanted
    if wanted.block_size > 32 and wanted not in FALLBACKS:
        raise QuantError(
            f"tensor {name} has rows of {n_per_row} weights, no multiple of {wanted.name}'s block of"
            f" {wanted.block_size}, and there is no smaller relative of {wanted.name}; choose another type"
        )
    smaller = FALLBACKS.get(wanted, wanted)
    return T.F16 if n_per_row % smaller.block_size else smaller


def needs_importance(name: str, kind_type: T, file_type: FileType) -> bool:
    """Whether a tensor of a type comes out as garbage without an importance matrix, as llama.cpp judges it."""
    if kind_of(name) in (Kind.TOKEN_EMBD, Kind.OUTPUT):
        return False
    return kind_type in GARBAGE_WITHOUT_IMPORTANCE or (kind_type is T.Q2_K and file_type.name == "Q2_K_S")
