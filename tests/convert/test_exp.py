"""exp against torch's, to the bit: every BF16 and F16 number, and many of F32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nemotron_gguf.convert.exp import exp


@pytest.mark.parametrize("kind", ["every BF16", "every F16", "F32", "a few F32"])
def test_the_bits_are_those_of_torch(kind: str) -> None:
    import torch

    codes = np.arange(65536, dtype=np.uint32)
    kinds: dict[str, npt.NDArray[Any]] = {
        "every BF16": (codes << 16).view(np.float32),
        "every F16": codes.astype(np.uint16).view(np.float16),
        "F32": np.random.default_rng(0).uniform(-100, 100, 1_000_000).astype(np.float32),
        "a few F32": np.random.default_rng(1).uniform(-3, 3, 67).astype(np.float32),
    }
    values = kinds[kind]
    expected = torch.exp(torch.from_numpy(values.copy())).numpy()
    found = exp(values)
    assert found.dtype == values.dtype
    bits = np.uint16 if values.dtype == np.float16 else np.uint32
    same = (found.view(bits) == expected.view(bits)) | (np.isnan(found) & np.isnan(expected))
    assert same.all()
