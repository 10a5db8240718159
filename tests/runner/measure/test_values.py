"""The arithmetic of divergences against torch's in float64, and its corners."""

from __future__ import annotations

import numpy as np
import pytest

from nemotron_gguf.runner.measure.statistics import difference, divergence, mean, quantile
from nemotron_gguf.runner.measure.values import (
    KL,
    NLL,
    NLL_BASE,
    P_DIFF,
    SAME_TOP,
    SAME_TOP_5,
    Scorer,
    pack,
    score,
    score_alone,
    unpack,
)


def rows(n: int, n_vocab: int, noise: float = 0.0, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n, n_vocab)) * 4 + rng.standard_normal((n, 1)) * 30
    return (logits + noise * np.random.default_rng(seed + 1).standard_normal((n, n_vocab))).astype(np.float32)


@pytest.mark.parametrize(("n", "n_vocab"), [(40, 300), (3, 131072)])
@pytest.mark.parametrize("noise", [1e-4, 0.3, 4.0])
def test_as_torch_has_it(n: int, n_vocab: int, noise: float) -> None:
    import torch

    reference, logits = rows(n, n_vocab), rows(n, n_vocab, noise)
    targets = np.random.default_rng(5).integers(0, n_vocab, n).astype(np.int32)
    values = score(logits, reference, targets)
    ours, theirs = (torch.log_softmax(torch.tensor(x, dtype=torch.float64), dim=1) for x in (logits, reference))
    kl = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="none").sum(dim=1).numpy()
    picked = torch.tensor(targets, dtype=torch.int64)
    nll = torch.nn.functional.nll_loss(ours, picked, reduction="none").numpy()
    base = torch.nn.functional.nll_loss(theirs, picked, reduction="none").numpy()
    assert values[:, KL] == pytest.approx(kl, rel=1e-9, abs=1e-14)
    assert values[:, NLL] == pytest.approx(nll, rel=1e-12)
    assert values[:, NLL_BASE] == pytest.approx(base, rel=1e-12)
    assert values[:, P_DIFF] == pytest.approx(np.exp(-nll) - np.exp(-base), rel=1e-9, abs=1e-15)
    tops = [torch.topk(x, 5).indices for x in (ours, theirs)]
    assert values[:, SAME_TOP].tolist() == (tops[0][:, 0] == tops[1][:, 0]).double().tolist()
    shared = [len({*a.tolist()} & {*b.tolist()}) / 5 for a, b in zip(*tops, strict=True)]
    assert values[:, SAME_TOP_5] == pytest.approx(shared)
    assert score_alone(logits, logits, targets)[:, NLL].tolist() == values[:, NLL].tolist()


def test_equal_rows_have_none_at_all() -> None:
    same, targets = rows(20, 5000), np.arange(20, dtype=np.int32)
    values = score(same, same.copy(), targets)
    assert not values[:, [KL, P_DIFF]].any()
    assert (values[:, [SAME_TOP, SAME_TOP_5]] == 1).all()


def test_logits_of_minus_infinity() -> None:
    """A token that cannot come costs nothing in the reference, and everything in the file alone."""
    reference, logits, targets = rows(2, 50), rows(2, 50, 0.1), np.array([3, 3], np.int32)
    reference[:, 7], logits[0, 7] = -np.inf, -np.inf
    first, second = score(logits, reference, targets)[:, KL]
    assert np.isfinite(first) and np.isfinite(second) and second > first > 0
    logits[0, 9] = -np.inf
    assert score(logits, reference, targets)[0, KL] == np.inf


def test_blocks_and_threads_change_no_bit() -> None:
    reference, logits = rows(300, 2000), rows(300, 2000, 0.5)
    targets = np.arange(300, dtype=np.int32)
    whole = score(logits, reference, targets)
    for threads in (1, 3):
        with Scorer(score, threads) as scorer:
            assert np.array_equal(scorer(logits, lambda part: reference[part], targets), whole)
    assert np.array_equal(unpack(pack([whole[:100], whole[100:]])), whole)


def test_standard_errors_are_those_of_repeated_draws() -> None:
    """The spread over many samples is what each sample's error says, for means and for quantiles."""
    rng = np.random.default_rng(3)
    draws = rng.exponential(size=(800, 1500))
    for number in (mean, lambda x: quantile(x, 0.5), lambda x: quantile(x, 0.99)):
        found = [number(sample) for sample in draws]
        errors = [one.error for one in found if one.error is not None]
        assert len(errors) == len(found)
        assert np.mean(errors) == pytest.approx(np.std([one.value for one in found]), rel=0.15)
    assert quantile(draws[0, :20], 0.999).error is None


def test_paired_differences_are_sharper_than_unpaired_ones() -> None:
    base, targets = rows(400, 300), np.zeros(400, np.int32)
    one, other = (score(rows(400, 300, noise), base, targets) for noise in (0.5, 0.6))
    found = difference(other, one)
    first, second = divergence(one).kl_mean, divergence(other).kl_mean
    assert first.error and second.error and found.error
    assert found.value == pytest.approx(second.value - first.value)
    assert found.error < 0.7 * np.hypot(first.error, second.error)
    assert difference(one, one).value == difference(one, one).error == 0
