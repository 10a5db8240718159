"""How a model is run: what was chosen from a person's wishes, the file and the machine."""

from __future__ import annotations

from dataclasses import dataclass

from nemotron_gguf.runner.placement.plan import Plan
from nemotron_gguf.runner.sampling import Sampling
from nemotron_gguf.runner.settings import ContextOverflow


@dataclass(frozen=True, slots=True)
class Setup:
    """What was chosen; `max_tokens` of an answer, None for all that the context has room for; `stop` ends it.

    `cache_ram`: bytes for copies of conversations' states beside the context. `idle_reading`: whether the next prompt's
    beginning is read while nobody asks.
    """

    plan: Plan
    sampling: Sampling
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    context_overflow: ContextOverflow = "stop"
    cache_ram: int = 0
    idle_reading: bool = False

    @property
    def ctx_size(self) -> int:
        """Tokens of context."""
        return self.plan.placement.ctx_size

    def describe(self) -> str:
        """One line that says what was chosen."""
        draw = self.sampling
        how = f"temperature {draw.temperature:g}"
        if draw.temperature > 0:
            how += f", top-p {draw.top_p:g}, top-k {draw.top_k}, min-p {draw.min_p:g}"
        return f"{self.plan.describe()} · {how}"
