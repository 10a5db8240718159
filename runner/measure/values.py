"""What is known of each predicted token, and the arithmetic that finds it: two distributions over the vocabulary.

Exact references are compared in float64 from float32 logits. For a vocabulary of 131,072 it is a few milliseconds a
token, so rows are dealt out to threads, as many together as a core's cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int32]

NLL, NLL_BASE, KL, P_DIFF, SAME_TOP, SAME_TOP_5 = range(6)
"""Columns: −ln p of the token that came, by the file and by the reference; the divergence in nats; p − p of the
reference; whether both hold the same token likeliest; which share of the five likeliest they have in common."""
Number = TypeVar("Number", np.float32, np.float64)
COLUMNS = ("nll", "nll_base", "kl", "p_diff", "same_top", "same_top_5")
N_COLUMNS, TOP = len(COLUMNS), 5
_BLOCK = 1 << 17  # logits that are looked at together: a megabyte in float64


Kind: TypeAlias = Callable[[Rows, Rows, Ids], Values]
"""How rows are scored: the file's logits `(n, n_vocab)`, rows of the reference, the tokens that came `(n,)`."""


def score_alone(logits: Rows, reference: Rows, targets: Ids) -> Values:  # noqa: ARG001 - there is none
    """Without a reference: NLL alone, the other columns are no numbers. `(n, 6) float64`."""
    values = np.full((len(logits), N_COLUMNS), np.nan)
    shifted, log_sum, _ = _softmax(logits)
    values[:, NLL] = log_sum - _at(shifted, targets)
    return values


def score(logits: Rows, reference: Rows, targets: Ids) -> Values:
    """Against logits of the reference. `(n, 6) float64`; equal rows have a divergence of exactly 0."""
    ours, log_sum, _ = _softmax(logits)
    theirs, log_sum_base, weights_base = _softmax(reference)
    values = np.empty((len(logits), N_COLUMNS))
    values[:, NLL] = log_sum - _at(ours, targets)
    values[:, NLL_BASE] = log_sum_base - _at(theirs, targets)
    with np.errstate(invalid="ignore"):  # −inf less −inf, where the next line puts
        np.subtract(theirs, ours, out=theirs)
    theirs[weights_base == 0] = 0  # nothing: what cannot come costs nothing
    np.multiply(theirs, weights_base, out=theirs)
    divergence = theirs.sum(axis=1) / np.exp(log_sum_base) + (log_sum - log_sum_base)
    values[:, KL] = np.maximum(divergence, 0)  # rounding may leave −1e-17 where there is none
    values[:, P_DIFF] = np.exp(-values[:, NLL]) - np.exp(-values[:, NLL_BASE])
    _tops_in_common(values, logits, reference)
    return values


def score_logprobs(logits: Rows, reference: Rows, targets: Ids) -> Values:
    """Against ln p of the reference as llama.cpp's format holds them: rounded, clipped, and their sum not one.

    In single precision where llama-perplexity is, since medians below 1e-3 are made of its rounding; what lies below
    −16 counts for nothing, and a divergence may be negative. `(n, 6) float64`. (tools/perplexity/perplexity.cpp)
    """
    largest = logits.max(axis=1, keepdims=True)
    total = exp32(logits - largest).sum(axis=1, keepdims=True, dtype=np.float64)
    log_sum = largest + np.log(total).astype(np.float32)
    values = np.empty((len(logits), N_COLUMNS))
    nll, nll_base = _at(log_sum - logits, targets), -_at(reference, targets)
    values[:, NLL], values[:, NLL_BASE] = nll, nll_base
    terms = reference - logits
    terms += log_sum
    terms *= exp32(reference)
    terms[reference <= -16] = 0
    values[:, KL] = terms.sum(axis=1, dtype=np.float64)
    values[:, P_DIFF] = exp32(-nll) - exp32(-nll_base)
    _tops_in_common(values, logits, reference)
    return values


def exp32(numbers: Rows) -> Rows:
    """The exponential, rounded once, as the C library's `expf` all but always has it."""
    return np.exp(numbers, dtype=np.float64).astype(np.float32)


def _tops_in_common(values: Values, logits: Rows, reference: Rows) -> None:
    ours, theirs = _tops(logits), _tops(reference)
    values[:, SAME_TOP] = ours[:, 0] == theirs[:, 0]
    values[:, SAME_TOP_5] = (ours[:, :, None] == theirs[:, None, :]).any(axis=2).mean(axis=1)


def _softmax(logits: Rows) -> tuple[Values, Values, Values]:
    """Logits less their largest `(n, v)`, ln of the sum of what they weigh `(n,)`, and what they weigh `(n, v)`."""
    shifted = np.subtract(logits, logits.max(axis=1, keepdims=True), dtype=np.float64)
    weights = np.exp(shifted)
    return shifted, np.log(weights.sum(axis=1)), weights


def _at(rows: npt.NDArray[Number], targets: Ids) -> npt.NDArray[Number]:
    return np.take_along_axis(rows, targets[:, None].astype(np.int64), axis=1)[:, 0]


def _tops(rows: Rows) -> npt.NDArray[np.intp]:
    """The likeliest tokens of each row, `(n, TOP)`; of equals the first."""
    rows, every = rows.copy(), np.arange(len(rows))
    found = np.empty((len(rows), TOP), np.intp)
    for rank in range(TOP):  # five searches for the largest are faster than one partition
        found[:, rank] = rows.argmax(axis=1)
        rows[every, found[:, rank]] = -np.inf
    return found


class Scorer:
    """Scores rows with several threads; a context manager."""

    def __init__(self, kind: Kind, threads: int) -> None:
        self.kind = kind
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, logits: Rows, reference: Callable[[slice], Rows], targets: Ids) -> Values:
        """`(n, 6) float64` for `n` rows; `reference` gives the rows of a slice, and is asked by several threads."""

        def block(rows: slice) -> Values:
            return self.kind(logits[rows], reference(rows), targets[rows])

        return np.concatenate(list(self._pool.map(block, _blocks(*logits.shape))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def _blocks(n: int, n_vocab: int) -> Iterator[slice]:
    step = max(1, _BLOCK // n_vocab)
    return (slice(begin, min(begin + step, n)) for begin in range(0, n, step))


def pack(values: Sequence[Values]) -> bytes:
    """Rows as they cross to the front."""
    return np.ascontiguousarray(np.concatenate(values), "<f8").tobytes()


def unpack(data: bytes) -> Values:
    """The same rows back, `(n, 6) float64`."""
    return np.frombuffer(data, "<f8").reshape(-1, N_COLUMNS)
