"""Tokens cut into chunks as llama-perplexity and llama-imatrix cut them: end to end, what is left over dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.errors import RunnerError

Tokens: TypeAlias = npt.NDArray[np.int32]
SMALLEST = 16  # tokens of a chunk


@dataclass(frozen=True, eq=False)
class Chunks:
    """`tokens` is `(n_chunks, n_ctx) int32`, as the text has them; the model is given `bos` in place of the first."""

    tokens: Tokens
    bos: int | None = None

    @property
    def count(self) -> int:
        """Number of chunks."""
        return int(self.tokens.shape[0])

    @property
    def n_ctx(self) -> int:
        """Tokens of a chunk."""
        return int(self.tokens.shape[1])

    def first(self, count: int | None) -> Chunks:
        """The first so many of them, or all."""
        return self if count is None else Chunks(self.tokens[:count], self.bos)


def cut(texts: Sequence[Sequence[int] | Tokens], n_ctx: int, bos: int | None = None) -> Chunks:
    """Each text's tokens in chunks of `n_ctx`, several texts mixed evenly: any beginning has its share of each.

    Raises RunnerError where there are not two chunks in all, the least that llama.cpp's tools work with.
    """
    if n_ctx < SMALLEST:
        raise RunnerError(f"chunks of {n_ctx} tokens are too short, expected {SMALLEST} at least; say --ctx-size 512")
    parts = [np.asarray(text, np.int32) for text in texts]
    whole = [part[: len(part) // n_ctx * n_ctx].reshape(-1, n_ctx) for part in parts]
    if sum(map(len, whole)) < 2:
        found = sum(map(len, parts))
        raise RunnerError(
            f"the text has {found} tokens, expected {2 * n_ctx} or more for chunks of {n_ctx}; give a longer --text or"
            " a smaller --ctx-size"
        )
    places = np.concatenate([(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in whole])
    return Chunks(np.concatenate(whole)[np.argsort(places, kind="stable")], bos)
