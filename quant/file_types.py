"""llama.cpp's named file types: the number that `general.file_type` carries, the type of most tensors, and the rules
that give some kinds of tensor another one.

Rules are read from top to bottom: the first of the tensor's kind whose condition holds decides, and where none does the
base type stays. Source: `llama_tensor_get_type_impl` and `llama_ftype_get_default_type` of llama.cpp's llama-quant.cpp;
tests compare every type with the library that is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.place import (
    Condition,
    Kind,
    always,
    eight_experts,
    eight_experts_more_bits,
    first_eighth,
    first_eighth_met,
    first_eighth_with_imatrix,
    first_eighth_without_imatrix,
    first_four,
    first_sixteenth,
    first_two,
    middle,
    more_bits,
    shared_heads,
    shared_heads_or_experts,
    without_imatrix,
)

Rule: TypeAlias = tuple[Kind, Condition, T]

EMBD, V, K, Q, OUT = Kind.TOKEN_EMBD, Kind.ATTN_V, Kind.ATTN_K, Kind.ATTN_Q, Kind.ATTN_OUTPUT
UP, GATE, DOWN = Kind.FFN_UP, Kind.FFN_GATE, Kind.FFN_DOWN


@dataclass(frozen=True)
class FileType:
    """A named mixture: `base` for most tensors, `rules` for the others, `output` for the output matrix.

    `unstacked`, where given, is for every tensor that does not stack the matrices of experts, whatever the rules say.
    `very_low` mixtures make no exception for 70B models.
    """

    name: str
    number: int
    base: T
    rules: tuple[Rule, ...] = ()
    output: T = T.Q6_K
    unstacked: T | None = None
    very_low: bool = False


_EIGHT: tuple[Rule, ...] = (  # before the rules of every mixture but the very low ones
    (V, eight_experts, T.Q8_0),
    (K, eight_experts, T.Q8_0),
)


def _mixture(name: str, number: int, base: T, *rules: Rule) -> FileType:
    return FileType(name, number, base, _EIGHT + rules, T.Q8_0 if base is T.Q8_0 else T.Q6_K)


def _very_low(name: str, number: int, base: T, embedding: T, some: T, attn_output: T | None) -> FileType:
    """The mixtures of about two bits: `some` where more are worth it, Q5_K for the output."""
    rules: tuple[Rule, ...] = (
        (EMBD, always, embedding),
        (V, shared_heads_or_experts, T.Q4_K),
        (V, always, some),
        (K, eight_experts, T.Q4_K),
        (DOWN, first_eighth_met, some),
        (OUT, eight_experts, T.Q5_K),
        *(((OUT, always, attn_output),) if attn_output else ()),
    )
    return FileType(name, number, base, rules, T.Q5_K, very_low=True)


_OUT_EIGHT: Rule = (OUT, eight_experts, T.Q5_K)

FILE_TYPES = (
    FileType("F32", 0, T.F32),
    FileType("F16", 1, T.F16),
    FileType("BF16", 32, T.BF16),
    _mixture("Q8_0", 7, T.Q8_0),
    _mixture("Q6_K", 18, T.Q6_K),
    _mixture("Q5_K_M", 17, T.Q5_K, (V, more_bits, T.Q6_K), (DOWN, more_bits, T.Q6_K)),
    _mixture("Q5_K_S", 16, T.Q5_K),
    _mixture("Q5_1", 9, T.Q5_1),
    _mixture("Q5_0", 8, T.Q5_0, (DOWN, first_eighth_with_imatrix, T.Q5_1)),
    _mixture("Q4_K_M", 15, T.Q4_K, (V, more_bits, T.Q6_K), (DOWN, more_bits, T.Q6_K), _OUT_EIGHT),
    _mixture("Q4_K_S", 14, T.Q4_K, (V, first_four, T.Q5_K), (DOWN, first_eighth, T.Q5_K), _OUT_EIGHT),
    _mixture("Q4_1", 3, T.Q4_1),
    _mixture("Q4_0", 2, T.Q4_0, (DOWN, first_eighth_with_imatrix, T.Q4_1)),
    _mixture(
        *("IQ4_NL", 25, T.IQ4_NL),
        *((V, shared_heads, T.Q5_K), (DOWN, first_eighth_without_imatrix, T.Q5_K), _OUT_EIGHT),
    ),
    _mixture(
        *("IQ4_XS", 30, T.IQ4_XS),
        *((V, shared_heads, T.Q5_K), (DOWN, first_eighth_without_imatrix, T.Q5_K), _OUT_EIGHT),
    ),
    FileType("MXFP4_MOE", 38, T.MXFP4, output=T.Q8_0, unstacked=T.Q8_0),
    _mixture(
        *("Q3_K_L", 13, T.Q3_K),
        (V, always, T.Q5_K),
        (DOWN, always, T.Q5_K),
        (OUT, eight_experts, T.Q3_K),
        (OUT, always, T.Q5_K),
    ),
    _mixture(
        *("Q3_K_M", 12, T.Q3_K),
        (V, first_two, T.Q5_K),
        (V, always, T.Q4_K),
        (DOWN, first_sixteenth, T.Q5_K),
        (DOWN, always, T.Q4_K),
        _OUT_EIGHT,
        (OUT, always, T.Q4_K),
    ),
    _mixture("Q3_K_S", 11, T.Q3_K, _OUT_EIGHT),
    _mixture(
        *("IQ3_M", 27, T.IQ3_S),
        (V, always, T.Q4_K),
        (DOWN, first_eighth, T.Q4_K),
        (DOWN, eight_experts_more_bits, T.Q4_K),
        _OUT_EIGHT,
        (OUT, always, T.Q4_K),
    ),
    _mixture("IQ3_S", 26, T.IQ3_S, (V, shared_heads, T.Q4_K), _OUT_EIGHT),
    _mixture(
        *("IQ3_XS", 22, T.IQ3_S),
        (V, shared_heads, T.Q4_K),
        (K, always, T.IQ3_XXS),
        (Q, always, T.IQ3_XXS),
        (UP, middle, T.IQ3_XXS),
        (GATE, middle, T.IQ3_XXS),
        _OUT_EIGHT,
    ),
    FileType(
        *("IQ3_XXS", 23, T.IQ3_XXS),
        (
            *_EIGHT,
            (EMBD, always, T.IQ3_S),
            (V, shared_heads, T.Q4_K),
            (V, without_imatrix, T.IQ3_S),
            (K, always, T.IQ2_S),
            (Q, always, T.IQ2_S),
            (DOWN, first_eighth_without_imatrix, T.Q4_K),
            (DOWN, without_imatrix, T.Q3_K),
            _OUT_EIGHT,
            (OUT, always, T.IQ3_S),
        ),
        output=T.Q5_K,
    ),
    _mixture(
        *("Q2_K", 10, T.Q2_K),
        (V, shared_heads, T.Q4_K),
        (V, always, T.Q3_K),
        (DOWN, always, T.Q3_K),
        _OUT_EIGHT,
        (OUT, always, T.Q3_K),
    ),
    _mixture("Q2_K_S", 21, T.Q2_K, (V, shared_heads, T.Q4_K), (DOWN, first_eighth, T.Q4_K)),
    _very_low("IQ2_M", 29, T.IQ2_S, T.IQ3_S, T.IQ3_S, T.IQ3_S),
    _very_low("IQ2_S", 28, T.IQ2_XS, T.IQ3_S, T.IQ3_S, T.IQ3_S),
    _very_low("IQ2_XS", 20, T.IQ2_XS, T.Q2_K, T.Q2_K, None),
    _very_low("IQ2_XXS", 19, T.IQ2_XXS, T.Q2_K, T.Q2_K, None),
    _very_low("IQ1_M", 31, T.IQ1_M, T.Q2_K, T.Q2_K, T.IQ2_XXS),
    _very_low("IQ1_S", 24, T.IQ1_S, T.Q2_K, T.Q2_K, T.IQ2_XXS),
    _mixture("Q2_0", 41, T.Q2_0, (EMBD, always, T.Q4_K)),
    _mixture("Q1_0", 40, T.Q1_0),
    _mixture("TQ2_0", 37, T.TQ2_0, (EMBD, always, T.Q4_K)),
    _mixture("TQ1_0", 36, T.TQ1_0, (EMBD, always, T.Q4_K)),
)

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


# No type of llama.cpp's: every tensor stays what it is, but for those that are named.
AUTO = FileType("auto", -1, T.BF16)


def file_type(name: str) -> FileType:
    """A file type by the name or number that llama-quantize takes, or `auto`; raises QuantError for any other."""
    if name.lower() == AUTO.name:
        return AUTO
    wanted = ALIASES.get(name.upper(), name.upper())
    for known in FILE_TYPES:
        if wanted in (known.name, str(known.number)):
            return known
    raise QuantError(f"{name!r} is no file type, expected one of {', '.join(t.name for t in FILE_TYPES)}")
