"""What libllama is given to compute: tokens, where they stand in which sequence, whose probabilities are wanted."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
    """A token and its place: the sequence that it belongs to, and its position in it."""

    token: int
    sequence: int
    position: int


class Batch:
    """A `llama_batch` in memory of our own, filled anew for each computation."""

    def __init__(self, llama: Any, capacity: int) -> None:
        """`capacity`: tokens that it can hold."""
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._counts = np.ones(capacity, np.int32)  # each token belongs to one sequence
        self._pointers = (self._sequences.ctypes.data + 4 * np.arange(capacity)).astype(np.uintp)
        arrays = (self._tokens, None, self._positions, self._counts, self._pointers, self._wanted)
        fields = [kind for _, kind in llama.llama_batch._fields_[1:]]
        given = [
            None if array is None else ctypes.cast(array.ctypes.data, kind)
            for array, kind in zip(arrays, fields, strict=True)
        ]
        self.value = llama.llama_batch(0, *given)

    def of_chunk(self, tokens: Sequence[int], sequence: int, position: int, *, wanted: bool) -> Any:
        """Neighbouring tokens of one sequence; with `wanted` the probabilities behind the last."""
        count = len(tokens)
        self._tokens[:count] = tokens
        self._positions[:count] = np.arange(position, position + count)
        self._sequences[:count] = sequence
        self._wanted[:count] = 0
        self._wanted[count - 1] = wanted
        self.value.n_tokens = count
        return self.value

    def of_rows(self, rows: Sequence[Row]) -> Any:
        """One token each of several sequences, and the probabilities behind each."""
        for index, (token, sequence, position) in enumerate(rows):
            self._tokens[index] = token
            self._sequences[index] = sequence
            self._positions[index] = position
            self._wanted[index] = 1
        self.value.n_tokens = len(rows)
        return self.value
