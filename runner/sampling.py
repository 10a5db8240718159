"""How the next token is drawn, as a frozen value: what the engine's sampler chain is made from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nemotron_gguf.runner.errors import RunnerError, WishError

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 10),
    "top_k": (0, 1 << 30),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, 100),
    "repeat_penalty": (0.01, 100),
    "repeat_last_n": (-1, 1 << 30),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
    "dry_allowed_length": (0, 1 << 30),
    "dry_last_n": (-1, 1 << 30),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "seed": (0, (1 << 32) - 1),
}
"""What each number may be, lowest and highest."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: llama.cpp's own defaults (common/common.h) where nothing else is said.

    `temperature` 0 takes the likeliest token; `top_k` 0, `top_p` 1, `min_p` 0, `typical_p` 1, `top_n_sigma` -1 keep
    all; penalties of 1 (`repeat_penalty`) or 0 (the others) are none; a `last_n` of -1 is the whole context, 0 nothing.
    `mirostat` 1 or 2 replaces all that choose by rank. `logit_bias`: (token, what is added to its logit). `seed` None
    is another one each time. Raises RunnerError for a number out of range.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_last_n: int = -1
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        strange = next((by for _, by in self.logit_bias if not by < math.inf), None)
        if strange is not None:
            raise RunnerError(f"--logit-bias adds {strange}, expected a number; -inf forbids a token")

    @property
    def penalises(self) -> bool:
        """Whether a draw depends on the tokens before it."""
        penalties = (self.repeat_penalty != 1, self.presence_penalty, self.frequency_penalty)
        return bool(any(penalties) and self.repeat_last_n) or bool(self.dry_multiplier and self.dry_last_n)


def check_bias(sampling: Sampling, n_vocab: int) -> None:
    """Raises WishError where a bias is for a token that is not in a vocabulary of that size."""
    wrong = next((token for token, _ in sampling.logit_bias if not 0 <= token < n_vocab), None)
    if wrong is not None:
        raise WishError(f"--logit-bias names token {wrong}, expected one of the file's, 0 to {n_vocab - 1}")


def check_ranges(values: object, ranges: dict[str, tuple[float, float]]) -> None:
    """Raise RunnerError, naming the option, where one of the named attributes is outside its range (None passes)."""
    for name, (low, high) in ranges.items():
        value = getattr(values, name)
        if value is not None and not low <= value <= high:
            option = "--" + name.replace("_", "-")
            raise RunnerError(f"{option} is {value}, expected {low} to {high}")
