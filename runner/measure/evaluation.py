"""What is measured and what comes of it: a text in chunks, a reference's logits, a file's scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemotron_gguf.runner.measure.chunks import Chunks
from nemotron_gguf.runner.measure.statistics import Divergence, Estimate, divergence, perplexity
from nemotron_gguf.runner.measure.values import Values
from nemotron_gguf.runner.process.messages import OutputMatrix


@dataclass(frozen=True, eq=False)
class Material:
    """A text as chunks of a vocabulary of `n_vocab` tokens, which `vocabulary` names (empty where it is not known)."""

    chunks: Chunks
    n_vocab: int
    vocabulary: str

    @property
    def n_rows(self) -> int:
        """Predictions of a chunk that are scored: its second half, as llama-perplexity has it."""
        return self.chunks.n_ctx - 1 - self.chunks.n_ctx // 2

    @property
    def n_predicted(self) -> int:
        """Predictions that are scored in all."""
        return self.n_rows * self.chunks.count


@dataclass(frozen=True, eq=False)
class Reference:
    """A file of logits for a text: of this project's form, or llama-perplexity's. `name` is the model's file.

    `matrix`: the logits are computed from what the file holds by that one.
    """

    path: Path
    material: Material
    name: str
    identity: Mapping[str, str]
    llama_format: bool = False
    matrix: OutputMatrix | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A file that was measured: its bytes, a row of `values` for each predicted token, seconds in libllama and in all.

    `compared`: whether there was a reference; else `values` has NLL alone.
    """

    path: Path
    nbytes: int
    n_weights: int
    values: Values
    compared: bool
    n_tokens: int
    model_seconds: float
    seconds: float

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file for each of the model's weights."""
        return 8 * self.nbytes / self.n_weights

    @property
    def perplexity(self) -> Estimate:
        """Of the file alone."""
        return perplexity(self.values)

    @property
    def divergence(self) -> Divergence:
        """From the reference; there must have been one."""
        assert self.compared, self.path
        return divergence(self.values)
