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


class Part(NamedTuple):
    """Neighbouring tokens of a sequence, from a position on; whether the probabilities behind the last are wanted."""

    tokens: Sequence[int]
    sequence: int
    position: int
    wanted: bool


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

    def of_parts(self, parts: Sequence[Part]) -> Any:
        """Parts of different sequences, one behind the other."""
        end = 0
        for tokens, sequence, position, wanted in parts:
            begin, end = end, end + len(tokens)
            self._tokens[begin:end] = tokens
            self._positions[begin:end] = np.arange(position, position + len(tokens))
            self._sequences[begin:end] = sequence
            self._wanted[begin:end] = 0
            self._wanted[end - 1] = wanted
        self.value.n_tokens = end
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
