"""How chunks go through a model: their length, how many at a time, on what."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.measure.chunks import SMALLEST
from nemotron_gguf.runner.placement.placement import UBATCH, Placement
from nemotron_gguf.runner.settings import default_threads

BATCH = 512  # tokens; more than a ubatch only takes more memory for logits
LOGITS = 1 << 28  # bytes that those of a batch may take: 512 tokens of a vocabulary of 131,072


@dataclass(frozen=True, slots=True)
class Window:
    """Chunks of `n_ctx` tokens, as many at a time as a batch has room for; sizes in tokens.

    The same chunks give the same bits where threads, batch, device and build are the same.
    """

    n_ctx: int = 512
    threads: int | None = None
    batch: int = BATCH
    ubatch: int = UBATCH

    def __post_init__(self) -> None:
        if not SMALLEST <= self.n_ctx <= 1 << 20:
            raise RunnerError(f"chunks of {self.n_ctx} tokens cannot be measured, expected {SMALLEST} to {1 << 20}")

    @property
    def parallel(self) -> int:
        """Chunks at a time, as llama-perplexity has them."""
        return max(1, self.batch // self.n_ctx)

    def for_vocabulary(self, n_vocab: int) -> Window:
        """The same, with smaller batches where the logits of every token of one would take more than LOGITS bytes."""
        return replace(self, batch=min(self.batch, max(LOGITS // (4 * n_vocab), SMALLEST)))

    def placement(self) -> Placement:
        """What the engine is told where a model runs on the processor alone."""
        parallel = self.parallel
        return Placement(
            ctx_size=parallel * self.n_ctx,
            threads=self.threads or default_threads(),
            parallel=parallel,
            batch=min(self.batch, parallel * self.n_ctx),
            ubatch=min(self.ubatch, self.batch),
        )
