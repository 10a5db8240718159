"""Numbers over tokens, each with its standard error."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import exp, sqrt

import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.measure.values import KL, NLL, NLL_BASE, P_DIFF, SAME_TOP, SAME_TOP_5, Values


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its standard error over tokens; the error is None where there is none to be had (a maximum)."""

    value: float
    error: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """For `--json`."""
        return {"value": self.value, "error": self.error}


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a file is from its reference over `n_tokens` predictions; divergences in nats, shares of 1.

    `log_ratio` is ln of the perplexity over the reference's. `kl_median` to `kl_max` are quantiles of the tokens'
    divergences, interpolated. `top_1`: how often both hold the same token likeliest; `top_5`: which share of the
    reference's five likeliest are among the file's five. `p_diff_rms`: root mean square of the difference between the
    probabilities of the token that came.
    """

    n_tokens: int
    perplexity: Estimate
    perplexity_base: Estimate
    log_ratio: Estimate
    kl_mean: Estimate
    kl_median: Estimate
    kl_99: Estimate
    kl_999: Estimate
    kl_max: Estimate
    top_1: Estimate
    top_5: Estimate
    p_diff_mean: Estimate
    p_diff_rms: Estimate

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.as_dict() if isinstance(value, Estimate) else value for name, value in found.items()}


def perplexity(values: Values) -> Estimate:
    """The exponential of the mean −ln p, with the error that the mean's gives it; as llama-perplexity has both."""
    return _exponential(mean(values[:, NLL]))


def divergence(values: Values) -> Divergence:
    """All numbers of a comparison, from rows of `measure.values`, `(n, 6) float64`."""
    kl, p_diff = values[:, KL], values[:, P_DIFF]
    return Divergence(
        n_tokens=len(values),
        perplexity=perplexity(values),
        perplexity_base=_exponential(mean(values[:, NLL_BASE])),
        log_ratio=mean(values[:, NLL] - values[:, NLL_BASE]),
        kl_mean=mean(kl),
        kl_median=quantile(kl, 0.5),
        kl_99=quantile(kl, 0.99),
        kl_999=quantile(kl, 0.999),
        kl_max=Estimate(float(kl.max())),
        top_1=mean(values[:, SAME_TOP]),
        top_5=mean(values[:, SAME_TOP_5]),
        p_diff_mean=mean(p_diff),
        p_diff_rms=_root(mean(p_diff**2)),
    )


def difference(ours: Values, theirs: Values) -> Estimate:
    """The mean divergence of one file less another's, paired: the same tokens against one reference."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return mean(ours[:, KL] - theirs[:, KL])


def mean(numbers: npt.NDArray[np.float64]) -> Estimate:
    """The mean, and the deviation divided by √(n − 1)."""
    if len(numbers) < 2:
        return Estimate(float(numbers.mean()))
    return Estimate(float(numbers.mean()), float(numbers.std() / sqrt(len(numbers) - 1)))


def quantile(numbers: npt.NDArray[np.float64], share: float) -> Estimate:
    """A quantile, and half the distance between those a binomial deviation below and above it.

    Where the one above would lie behind the largest number, nothing is known of the error.
    """
    n = len(numbers)
    spread = sqrt(share * (1 - share) / n)
    value = float(np.quantile(numbers, share))
    if share + spread > 1:
        return Estimate(value)
    low, high = np.quantile(numbers, [max(share - spread, 0), share + spread])
    return Estimate(value, float(high - low) / 2)


def _exponential(log: Estimate) -> Estimate:
    value = exp(log.value)
    return Estimate(value, None if log.error is None else value * log.error)


def _root(square: Estimate) -> Estimate:
    value = sqrt(square.value)
    if square.error is None:
        return Estimate(value)
    return Estimate(value, 0.5 * square.error / value if value else 0.0)
