"""How chunks go through a model: as many together as a batch holds, and no gigabytes of logits."""

from __future__ import annotations

import pytest

from nemotron_gguf.runner.measure.chunks import SMALLEST
from nemotron_gguf.runner.measure.window import LOGITS, Window

NANO = 131_072  # tokens of Nemotron 3's vocabulary


@pytest.mark.parametrize("n_vocab", [500, 32_000, NANO, 262_144, 10_000_000])
@pytest.mark.parametrize("window", [Window(), Window(batch=2048), Window(4096, batch=8192), Window(64, batch=256)])
def test_logits_of_a_batch_have_a_bound(window: Window, n_vocab: int) -> None:
    """However many tokens want their logits, and a batch is never larger than was asked for."""
    placement = window.for_vocabulary(n_vocab).placement()
    assert placement.batch <= window.placement().batch
    assert placement.batch * n_vocab * 4 <= LOGITS or placement.batch == SMALLEST
    assert placement.ubatch <= placement.batch


def test_the_default_is_as_large_as_nemotron_3_allows() -> None:
    assert Window().for_vocabulary(NANO) == Window()
    assert Window(batch=2048).for_vocabulary(NANO).placement().parallel == 1
    assert Window(batch=2048).for_vocabulary(2304).placement().parallel == 4
