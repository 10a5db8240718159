"""The types that a fitted file may use, and what each does to weights where nothing is known of them."""

from __future__ import annotations

from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant.classes import EXPERTS
from nemotron_gguf.quant.recipe import GARBAGE_WITHOUT_IMPORTANCE

# Squared error as a part of the weights' squares, for normal weights with all columns alike: `python
# bench/fit_defaults.py types` prints them.
ERRORS = {
    T.BF16: 2.7e-6,
    T.F16: 4.3e-8,
    T.Q8_0: 2.9e-5,
    T.Q6_K: 0.0003,
    T.Q5_K: 0.00126,
    T.Q5_1: 0.00116,
    T.Q5_0: 0.00165,
    T.Q4_K: 0.00505,
    T.Q4_1: 0.00493,
    T.Q4_0: 0.00675,
    T.IQ4_NL: 0.00567,
    T.IQ4_XS: 0.00577,
    T.MXFP4: 0.0133,
    T.Q3_K: 0.0211,
    T.IQ3_S: 0.0189,
    T.IQ3_XXS: 0.0332,
    T.Q2_K: 0.0724,
    T.Q2_0: 0.52,
    T.IQ2_S: 0.0624,
    T.IQ2_XS: 0.0906,
    T.IQ2_XXS: 0.119,
    T.IQ1_M: 0.206,
    T.IQ1_S: 0.238,
    T.Q1_0: 0.361,
    T.TQ1_0: 0.655,
    T.TQ2_0: 0.655,
}

RIVALS_ONLY = frozenset({T.IQ1_M, T.IQ1_S, T.Q1_0, T.TQ1_0, T.TQ2_0})
"""What only named recipes are made of: types below two bits, and those that CUDA has no matrix products for."""

QUANTIZED = tuple(kind for kind in ERRORS if kind.is_quantized and kind not in RIVALS_ONLY)

SMALL = 0.03  # of the weights
FLOOR = 4.25  # bits a weight


def candidates(name: str, stored: T, part_of_weights: float, *, has_imatrix: bool) -> tuple[T, ...]:
    """Types for a class of that name, the 16 bits that it is stored in among them (BF16 for F32).

    A class that every token uses and that is a small part of the weights has a floor: alone its divergence is measured
    as less than what it adds to that of others, and its bytes are few. Without importance, types that need it are left
    out.
    """
    has_floor = name not in EXPERTS and part_of_weights < SMALL
    quantized = (
        kind
        for kind in QUANTIZED
        if (has_imatrix or kind not in GARBAGE_WITHOUT_IMPORTANCE) and (not has_floor or kind.bits_per_weight >= FLOOR)
    )
    whole = stored if stored in ERRORS and not stored.is_quantized else T.BF16
    return (whole, *quantized)
