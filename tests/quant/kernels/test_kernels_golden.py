"""Digests of ggml's blocks for inputs that integers alone determine, so that every machine makes the same ones.

`python tests/quant/kernels/test_kernels_golden.py` writes golden.json anew from the installed library, which must be
built for baseline x86-64.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import NEEDS_IMPORTANCE, quantize_rows

PATH = Path(__file__).with_name("golden.json")
Floats = npt.NDArray[np.float32]
N_ROWS, N_PER_ROW = 24, 768

KINDS = [
    *(GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1, GGMLType.Q8_0),
    *(GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K),
    *(GGMLType.IQ4_NL, GGMLType.IQ4_XS, GGMLType.IQ3_S, GGMLType.IQ3_XXS),
    *(GGMLType.IQ2_S, GGMLType.IQ2_XS, GGMLType.IQ2_XXS, GGMLType.MXFP4, GGMLType.NVFP4),
]


def _integers(n: int, seed: int) -> npt.NDArray[np.uint64]:
    """Uniform 64-bit integers (splitmix64)."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def values() -> Floats:
    """Weights `(24, 768)`, each row a sum of four uniform numbers at a scale of its own, some of them zero."""
    parts = _integers(4 * N_ROWS * N_PER_ROW, 1).reshape(4, N_ROWS, N_PER_ROW) >> np.uint64(48)
    total = parts.astype(np.int64).sum(axis=0) - 2 * 65535
    total[5] = np.abs(total[5])
    total[6] = -np.abs(total[6])
    total[7, ::3] = 0
    total[8, 100:400] = 0
    scale = np.exp2(-20.0 - np.arange(N_ROWS) % 9)[:, None]
    weights: Floats = (total * scale).astype(np.float32)
    return weights


def importance() -> Floats:
    """Importance of the columns `(768,)`, mostly small."""
    uniform: Floats = (_integers(N_PER_ROW, 2) >> np.uint64(48)).astype(np.float32) * np.float32(2**-16)
    return uniform * uniform * uniform * uniform


def digest(blocks: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(blocks.tobytes()).hexdigest()[:32]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_golden_digests(kind: GGMLType, weighted: bool) -> None:
    """The bits of ggml built for baseline x86-64, on any machine and beside any library."""
    if not kernels.has_kernel(kind, weighted):
        pytest.skip("the library's own quantizer does it")
    table = json.loads(PATH.read_text(encoding="utf-8"))
    for lanes in kernels.instruction_sets():
        blocks = kernels.encode(kind, values(), importance() if weighted else None, lanes)
        assert blocks is not None
        assert digest(blocks) == table[kind.name]["weighted" if weighted else "plain"], lanes


def main() -> None:
    os.environ[kernels.VARIABLE] = "library"
    table: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        entry = table.setdefault(kind.name, {"weighted": digest(quantize_rows(kind, values(), importance()))})
        if kind not in NEEDS_IMPORTANCE:
            entry["plain"] = digest(quantize_rows(kind, values(), None))
    PATH.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
