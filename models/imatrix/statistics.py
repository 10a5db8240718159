"""What a matrix tells about each tensor's input: the columns of llama-imatrix's --show-statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.imatrix.coverage import natural
from nemotron_gguf.models.imatrix.matrix import Sums

INACTIVE = 1e-5  # a mean square up to this is a column that is not in use (tools/imatrix/imatrix.cpp)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Over the mean squares of all columns of the experts that were reached.

    `total`: their sum. `active`: the share above 1e-5. `entropy`: of their distribution, in bits, and as a share of the
    largest there can be. `high`: the share more than a standard deviation above the mean. `cosine`: of the sums with
    those of the same tensor in the layer before that has one, None in the first. `layer` None for a tensor of no layer.
    """

    name: str
    layer: int | None
    total: float
    smallest: float
    largest: float
    mean: float
    deviation: float
    active: float
    n_values: int
    entropy: float
    entropy_share: float
    high: float
    cosine: float | None


def statistics_of(entries: Mapping[str, Sums]) -> list[Statistics]:
    """The statistics of each tensor in which an expert was reached, in the order of the layers."""
    found = []
    last: dict[str, npt.NDArray[np.float64]] = {}  # by kind of tensor, of the layer before
    for name in sorted(entries, key=natural):
        sums = entries[name].load()
        layer, kind = _place(name)
        before = last.get(kind) if layer is not None else None
        last[kind] = sums
        reached = entries[name].counts > 0
        if reached.any():
            means = (sums[reached] / entries[name].counts[reached, None]).ravel()
            cosine = _cosine(sums, before) if before is not None and before.shape == sums.shape else None
            found.append(_statistics(name, layer, means, cosine))
    return found


def _statistics(name: str, layer: int | None, means: npt.NDArray[np.float64], cosine: float | None) -> Statistics:
    total, mean, deviation = float(means.sum()), float(means.mean()), float(means.std())
    shares = means[means > 0] / total if total > 0 else np.ones(1)
    entropy = float(-(shares * np.log2(shares)).sum())
    return Statistics(
        name, layer, total, float(means.min()), float(means.max()), mean, deviation,
        active=float((np.abs(means) > INACTIVE).mean()),
        n_values=len(means),
        entropy=entropy,
        entropy_share=entropy / float(np.log2(len(means))) if len(means) > 1 else 0.0,
        high=float((means > mean + deviation).mean()) if deviation > 0 else 0.0,
        cosine=cosine,
    )  # fmt: skip


def _cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size > 0 else None


def _place(name: str) -> tuple[int | None, str]:
    """A tensor's layer and what it is: (3, attn_k.weight) of blk.3.attn_k.weight."""
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) > 2 and parts[1].isdecimal():
        return int(parts[1]), ".".join(parts[2:])
    return None, name
