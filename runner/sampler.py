"""The draw of the next token: llama.cpp's sampler chain, in llama.cpp's order."""

from __future__ import annotations

import math
import secrets
from types import TracebackType
from typing import Any, Self

import numpy as np

from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.settings import Sampling

COLDEST = 1e-3  # below this temperature the likeliest token is taken: dividing by less overflows float32


class Sampler:
    """A sampler chain; a context manager, freed at the end."""

    def __init__(self, llama: Any, sampling: Sampling, n_vocab: int) -> None:
        self.llama, self.n_vocab = llama, n_vocab
        self.chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for part in self._parts(sampling):
            llama.llama_sampler_chain_add(self.chain, part)

    def _parts(self, sampling: Sampling) -> list[Any]:
        llama = self.llama
        if sampling.temperature < COLDEST:
            return [llama.llama_sampler_init_greedy()]
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        return [
            llama.llama_sampler_init_top_k(sampling.top_k),
            llama.llama_sampler_init_top_p(sampling.top_p, 1),
            llama.llama_sampler_init_min_p(sampling.min_p, 1),
            llama.llama_sampler_init_temp(sampling.temperature),
            llama.llama_sampler_init_dist(seed),
        ]

    def draw(self, context: Any) -> int:
        """The next token after what was last decoded.

        Raises RunnerError where the model computed no numbers: libllama would abort on them.
        """
        logits = self.llama.llama_get_logits_ith(context, -1)
        if not logits:
            raise RunnerError("the model gives no probabilities for a next token; it is not one that writes text")
        best = np.ctypeslib.as_array(logits, shape=(self.n_vocab,)).max()
        if not math.isfinite(best):
            raise RunnerError(
                f"the model computed {best} instead of probabilities; its file is damaged, or the device ran out of"
                " range: try another file, or --n-gpu-layers 0"
            )
        return int(self.llama.llama_sampler_sample(self.chain, context, -1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.llama.llama_sampler_free(self.chain)
