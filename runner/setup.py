"""How a model is run: what was chosen from a person's wishes, the file and the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.engine.library import DeviceKind
from nemotron_gguf.runner.engine.pace import GAP
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.placement.plan import Plan, plan
from nemotron_gguf.runner.preflight.vocabulary import tokens
from nemotron_gguf.runner.process.client import Client
from nemotron_gguf.runner.sampling import Sampling, check_bias
from nemotron_gguf.runner.settings import ContextOverflow, Settings, choose_sampling

LARGEST_CACHE_RAM = 2 << 30  # bytes, where nobody said how many


@dataclass(frozen=True, slots=True)
class Setup:
    """What was chosen; `max_tokens` of an answer, None for all that the context has room for; `stop` ends it.

    `cache_ram`: bytes for copies of conversations' states beside the context. `idle_reading`: whether the next prompt's
    beginning is read while nobody asks. `max_gap`: seconds between two tokens while others' prompts are read.
    """

    plan: Plan
    sampling: Sampling
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    context_overflow: ContextOverflow = "stop"
    cache_ram: int = 0
    idle_reading: bool = False
    max_gap: float = GAP

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


def choose_cache_ram(settings: Settings, found: Plan) -> int:
    """Bytes for copies of conversations' states: a quarter of what the processor has left, 2 GiB at most."""
    if settings.cache_ram is not None:
        return settings.cache_ram
    host = found.devices[0]
    return min(max(host.left, 0) // 4, LARGEST_CACHE_RAM) if host.is_known else LARGEST_CACHE_RAM


def set_up(file: GGUFFile, settings: Settings, engine: Client, *, measure: bool = False) -> Setup:
    """How a file that has passed the preflight would be run; nothing is loaded.

    On the processor alone compute buffers are estimated, unless `measure` asks for libllama's own figures. Raises
    RunnerError, with the numbers and what would fit, where it cannot be run as it is wished, WishError for a token or a
    device that is not there.
    """

    def compute(placement: Placement) -> Mapping[str, int] | None:
        return engine.probe(file.path, placement)

    devices = engine.devices(settings.rpc)
    measure = measure or any(device.kind is not DeviceKind.CPU for device in devices)
    sampling = choose_sampling(settings, file)
    check_bias(sampling, len(tokens(file)))
    found = plan(file, settings, devices, compute if measure else None)
    return Setup(
        found,
        sampling,
        settings.stop,
        settings.max_tokens,
        settings.context_overflow,
        choose_cache_ram(settings, found),
        settings.idle_reading,
        settings.max_gap,
    )
