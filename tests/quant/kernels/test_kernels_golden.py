"""Golden blocks: ggml's, for inputs that integers alone determine, so that every machine makes the same ones.

`python tests/quant/kernels/test_kernels_golden.py` writes golden.npz anew from the installed library, which must be
built for baseline x86-64.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import NEEDS_IMPORTANCE, quantize_rows

if TYPE_CHECKING:
    from nemotron_gguf.tests.quant.kernels.conftest import Golden

KINDS = [
    *(GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1, GGMLType.Q8_0),
    *(GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K),
    *(GGMLType.IQ4_NL, GGMLType.IQ4_XS, GGMLType.IQ3_S, GGMLType.IQ3_XXS),
    *(GGMLType.IQ2_S, GGMLType.IQ2_XS, GGMLType.IQ2_XXS, GGMLType.MXFP4, GGMLType.NVFP4),
]


WAYS = [(kind, weighted) for kind in KINDS for weighted in (False, True) if weighted or kind not in NEEDS_IMPORTANCE]


@pytest.mark.parametrize("lanes", kernels.instruction_sets())
@pytest.mark.parametrize(("kind", "weighted"), WAYS)
def test_golden_blocks(kind: GGMLType, weighted: bool, lanes: str, golden: Golden) -> None:
    """The bits of ggml built for baseline x86-64, on any machine and beside any library."""
    blocks = kernels.encode(kind, golden.weights, golden.importance if weighted else None, lanes)
    assert blocks is not None
    golden.check(kind, weighted, blocks)


def test_every_kernel_has_golden_blocks() -> None:
    if not kernels.instruction_sets():
        pytest.skip("no kernels were compiled")
    has = {(kind, weighted) for kind in GGMLType for weighted in (False, True) if kernels.has_kernel(kind, weighted)}
    assert has == set(WAYS)


def main() -> None:
    made = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    golden: Golden = made["Golden"]()
    kernels.choose("library")
    table: dict[str, Any] = {
        golden.name(kind, weighted): quantize_rows(kind, golden.weights, golden.importance if weighted else None)
        for kind, weighted in WAYS
    }
    np.savez_compressed(made["GOLDEN"], **table)


if __name__ == "__main__":
    main()
