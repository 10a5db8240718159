"""The bytes of a whole vocabulary in arrays, so that what a grammar lets follow is found for all tokens at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from nemotron_gguf.runner.engine.vocabulary import Vocabulary

PART = 4096  # tokens that are looked up at a time, in about 10 ms


class Spellings:
    """Tokens that have a text, by their first byte; control tokens have none, and `ends` are those that end an answer.

    `tokens` (n,) int32 in that order, of token i the bytes `data[starts[i] : starts[i] + lengths[i]]`; those that begin
    with byte b are from `groups[b]` to `groups[b + 1]`.
    """

    def __init__(self, pieces: Sequence[bytes], ends: Sequence[int]) -> None:
        """`pieces`: the bytes of every token of the vocabulary."""
        self.size = len(pieces)
        self.ends = np.array(ends, np.int64)
        spelled = sorted((token for token, piece in enumerate(pieces) if piece), key=lambda token: pieces[token][0])
        self.tokens = np.array(spelled, np.int32)
        self.lengths = np.array([len(pieces[token]) for token in spelled], np.int32)
        self.starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        self.data = np.frombuffer(b"".join(pieces[token] for token in spelled), np.uint8)
        self.groups = np.searchsorted(self.data[self.starts], np.arange(257))

    def beginning(self, firsts: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Places of the tokens that begin with one of these bytes."""
        parts = [np.arange(*self.groups[first : first + 2]) for first in firsts]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def spellings(vocabulary: Vocabulary) -> Iterator[Spellings | None]:
    """A vocabulary's spellings, at last; None on the way, since many tokens take a while."""
    pieces: list[bytes] = []
    ends: list[int] = []
    for begin, end in pairwise([*range(0, vocabulary.size, PART), vocabulary.size]):
        for token in range(begin, end):
            is_end = vocabulary.is_end(token)
            ends += [token] if is_end else []
            pieces.append(b"" if is_end else vocabulary.piece(token))
        yield None
    yield Spellings(pieces, ends)
