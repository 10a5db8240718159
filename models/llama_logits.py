"""llama-perplexity's file of a reference's logits (`--kl-divergence-base`), written and read.

Sixteen bits a logit: each row has the step and the smallest ln p as float32, then for each token how many steps its
ln p lies above that; what is more than 16 below the largest is as the smallest. Of each chunk the second half is there,
without the last position. (tools/perplexity/perplexity.cpp)

| bytes | what |
| --- | --- |
| 8 | `_logits_` |
| 4 + 4 + 4 | n_ctx, n_vocab, n_chunk |
| n_chunk × n_ctx × 4 | the tokens, int32 |
| … | for each chunk n_ctx − 1 − n_ctx / 2 rows of 8 + 2 × n_vocab bytes, a multiple of 4 |
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nemotron_gguf.models.errors import ModelError

MAGIC, CLIP = b"_logits_", 16
_SIZES = struct.Struct("<Iii")


@dataclass(frozen=True, eq=False)
class LlamaLogits:
    """What a file holds; `tokens` is `(n_chunks, n_ctx) int32`."""

    n_vocab: int
    tokens: npt.NDArray[np.int32]

    @property
    def n_rows(self) -> int:
        """Rows of a chunk."""
        n_ctx = int(self.tokens.shape[1])
        return n_ctx - 1 - n_ctx // 2

    @property
    def row_words(self) -> int:
        """16-bit words of a row."""
        return 2 * ((self.n_vocab + 1) // 2) + 4

    @property
    def head(self) -> bytes:
        """Everything before the first chunk."""
        n_chunks, n_ctx = self.tokens.shape
        return MAGIC + _SIZES.pack(n_ctx, self.n_vocab, n_chunks) + np.ascontiguousarray(self.tokens, "<i4").tobytes()

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk."""
        return self.n_rows * self.row_words * 2

    @property
    def file_size(self) -> int:
        """Bytes of a whole file."""
        return len(self.head) + len(self.tokens) * self.chunk_bytes


def read_llama_logits(path: Path) -> LlamaLogits:
    """What a file says it holds. Raises ModelError for one that is none of these, or not whole."""
    try:
        with path.open("rb") as file:
            found = _sizes(path, file)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if path.stat().st_size < found.file_size:
        raise ModelError(f"{path} ends too early: {path.stat().st_size} of {found.file_size} bytes; make it again")
    return found


def _sizes(path: Path, file: BinaryIO) -> LlamaLogits:
    start = file.read(len(MAGIC) + _SIZES.size)
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + _SIZES.size:
        raise ModelError(f"{path} is no file of llama-perplexity's logits: it begins otherwise; name another")
    n_ctx, n_vocab, n_chunks = _SIZES.unpack(start[len(MAGIC) :])
    size = n_ctx * n_chunks * 4
    if not (4 <= n_ctx <= 1 << 24 and n_vocab > 0 and n_chunks > 0 and size <= path.stat().st_size):
        raise ModelError(f"{path} is damaged: {n_chunks} chunks of {n_ctx} tokens, {n_vocab} logits; make it again")
    return LlamaLogits(n_vocab, np.frombuffer(file.read(size), "<i4").reshape(n_chunks, n_ctx))


class LlamaLogitsReader:
    """A file's chunks."""

    def __init__(self, path: Path) -> None:
        """Raises ModelError for a file that is none, or not whole."""
        self.path, self.layout = path, read_llama_logits(path)
        self._file = path.open("rb")

    def chunk(self, index: int) -> npt.NDArray[np.uint16]:
        """A chunk's rows as they are in the file, `(n_rows, row_words) uint16`."""
        layout = self.layout
        self._file.seek(len(layout.head) + index * layout.chunk_bytes)
        data = self._file.read(layout.chunk_bytes)
        return np.frombuffer(data, "<u2").reshape(layout.n_rows, layout.row_words)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def begin(path: Path, layout: LlamaLogits) -> int:
    """Begin a file, or go on with one that has the very same head; how many chunks are there.

    What lies behind them is cut off, so that chunks can be appended. Raises OSError.
    """
    head = layout.head
    with path.open("r+b" if path.exists() else "w+b") as file:
        if file.read(len(head)) != head:
            file.seek(0)
            file.truncate()
            file.write(head)
        there = (file.seek(0, os.SEEK_END) - len(head)) // layout.chunk_bytes
        done = min(there, len(layout.tokens))
        file.truncate(len(head) + done * layout.chunk_bytes)
    return done


def append(file: BinaryIO, logits: npt.NDArray[np.float32]) -> None:
    """The next chunk's rows, from logits `(n_rows, n_vocab) float32`. Raises OSError."""
    file.write(encode(logits).astype("<u2", copy=False).data)


def decode(rows: npt.NDArray[np.uint16], n_vocab: int) -> npt.NDArray[np.float32]:
    """ln p of rows as they are in the file, `(n, n_vocab) float32`."""
    ranges = np.ascontiguousarray(rows[:, :4]).view("<f4")  # the step and the smallest
    steps: npt.NDArray[np.float32] = rows[:, 4 : 4 + n_vocab].astype(np.float32)
    steps *= ranges[:, :1]
    steps += ranges[:, 1:]
    return steps


def encode(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Rows for the file from logits, `(n, n_vocab) float32`; in float32, as the reference has them."""
    n, n_vocab = logits.shape
    largest = logits.max(axis=1, keepdims=True)
    smallest = np.maximum(logits.min(axis=1, keepdims=True), largest - np.float32(CLIP))
    weights = np.exp((logits - largest).astype(np.float64)).astype(np.float32)  # as the C library rounds its expf
    log_sum = np.log(weights.sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    step = (largest - smallest) / np.float32(65535)
    inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=step > 0)
    rows = np.zeros((n, 2 * ((n_vocab + 1) // 2) + 4), np.uint16)
    rows[:, :4] = np.concatenate([step, smallest - largest - log_sum], axis=1).astype("<f4").view(np.uint16)
    rows[:, 4 : 4 + n_vocab] = np.rint(inverse * (np.maximum(logits, smallest) - smallest))
    return rows
