"""The draw of the next token: llama.cpp's sampler chain, in llama.cpp's order."""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.engine.constraint import Constraint
from nemotron_gguf.runner.engine.vocabulary import Vocabulary
from nemotron_gguf.runner.errors import GrammarError, RunnerError
from nemotron_gguf.runner.events import TokenProbability
from nemotron_gguf.runner.sampling import Sampling, check_bias

COLDEST = 1e-3  # below this temperature the likeliest token is taken: dividing by less overflows float32
DRY_BREAKERS = ("\n", ":", '"', "*")  # common_params_sampling (common/common.h)
MIROSTAT_M = 100  # common/sampling.cpp
MOST_REFUSED = 1000  # tokens one after the other, each of which would end a reasoning wrongly

Logits: TypeAlias = npt.NDArray[np.float32]

_CANDIDATE = np.dtype(
    [("id", np.int32), ("logit", np.float32), ("p", np.float32)]
)  # llama_token_data (include/llama.h)


class Sampler:
    """A sampler chain; a context manager, freed at the end."""

    def __init__(self, llama: Any, sampling: Sampling, vocabulary: Vocabulary, n_ctx_train: int) -> None:
        self.llama, self.sampling, self.vocabulary, self.n_ctx_train = llama, sampling, vocabulary, n_ctx_train
        # the likeliest token needs no chain, whose candidates would be written out for the whole vocabulary
        self.greedy = sampling.temperature < COLDEST and not sampling.penalises and not sampling.logit_bias
        self.reach = 0  # tokens before the next one that any penalty looks at
        parts = list(self._parts())
        self.chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for part in parts:
            llama.llama_sampler_chain_add(self.chain, part)
        self._address, self._view = 0, np.zeros(0, np.float32)
        self._candidates = np.zeros(0, _CANDIDATE)

    def _parts(self) -> Iterator[Any]:
        """The chain's links in the order of common_sampler_init (common/sampling.cpp)."""
        llama, s = self.llama, self.sampling
        seed = secrets.randbits(31) if s.seed is None else s.seed
        if s.logit_bias:
            yield self._bias()
        if s.mirostat == 0 or s.temperature < COLDEST:
            yield from self._penalties()
        if s.temperature < COLDEST:
            yield llama.llama_sampler_init_greedy()
        elif s.mirostat:
            yield llama.llama_sampler_init_temp(s.temperature)
            yield self._mirostat(seed)
        else:
            yield from self._ranks(seed)
            yield llama.llama_sampler_init_temp(s.temperature)
            yield llama.llama_sampler_init_dist(seed)

    def _bias(self) -> Any:
        llama, pairs = self.llama, self.sampling.logit_bias
        check_bias(self.sampling, self.vocabulary.size)
        biases = (llama.llama_logit_bias * len(pairs))(*(llama.llama_logit_bias(token, by) for token, by in pairs))
        return llama.llama_sampler_init_logit_bias(self.vocabulary.size, len(pairs), biases)

    def _penalties(self) -> Iterator[Any]:
        llama, s = self.llama, self.sampling
        if not s.penalises:
            return
        last_n = self.n_ctx_train if s.repeat_last_n < 0 else s.repeat_last_n
        penalties = (s.repeat_penalty, s.frequency_penalty, s.presence_penalty)
        if penalties != (1, 0, 0) and last_n:
            self.reach = last_n
            yield llama.llama_sampler_init_penalties(self.vocabulary.size, last_n, *penalties)
        if s.dry_multiplier and s.dry_last_n:
            breakers = (ctypes.c_char_p * len(DRY_BREAKERS))(*(text.encode() for text in DRY_BREAKERS))
            reach = self.n_ctx_train if s.dry_last_n < 0 else s.dry_last_n
            self.reach = max(self.reach, reach)
            how = (s.dry_multiplier, s.dry_base, s.dry_allowed_length, reach)
            yield llama.llama_sampler_init_dry(self.vocabulary.handle, *how, breakers, len(DRY_BREAKERS))

    def _ranks(self, seed: int) -> Iterator[Any]:
        """Those that keep some of the candidates; what would keep all is left out."""
        llama, s = self.llama, self.sampling
        if s.top_n_sigma >= 0:
            yield llama.llama_sampler_init_top_n_sigma(s.top_n_sigma)
        if s.top_k > 0:
            yield llama.llama_sampler_init_top_k(s.top_k)
        if s.typical_p < 1:
            yield llama.llama_sampler_init_typical(s.typical_p, 1)
        if s.top_p < 1:
            yield llama.llama_sampler_init_top_p(s.top_p, 1)
        if s.min_p > 0:
            yield llama.llama_sampler_init_min_p(s.min_p, 1)
        if s.xtc_probability > 0:
            yield llama.llama_sampler_init_xtc(s.xtc_probability, s.xtc_threshold, 1, seed)

    def _mirostat(self, seed: int) -> Any:
        llama, s = self.llama, self.sampling
        if s.mirostat == 1:
            return llama.llama_sampler_init_mirostat(
                self.vocabulary.size, seed, s.mirostat_tau, s.mirostat_eta, MIROSTAT_M
            )
        return llama.llama_sampler_init_mirostat_v2(seed, s.mirostat_tau, s.mirostat_eta)

    def accept(self, tokens: Sequence[int]) -> None:
        """Tell the penalties of tokens that were not drawn here: the prompt's, and those that the engine wrote."""
        for token in tokens[max(len(tokens) - self.reach, 0) :]:
            self.llama.llama_sampler_accept(self.chain, token)

    def draw(self, context: Any, row: int = -1) -> int:
        """The next token after what was last decoded, or after the row of that number where that had several.

        Raises RunnerError where the model computed no numbers: libllama would abort on them.
        """
        best = self._likeliest(self.logits(context, row))
        return best if self.greedy else int(self.llama.llama_sampler_sample(self.chain, context, row))

    def draw_within(self, constraint: Constraint, context: Any, row: int = -1) -> int:
        """As `draw`, a token that a constraint allows.

        As in llama.cpp's tools (common/sampling.cpp) all others are only left out once one of them was drawn. Raises
        RunnerError as `draw`, GrammarError where no token of the vocabulary may follow or that is too much to find out.
        """
        logits = self.logits(context, row)
        token = self._choose(logits)
        for attempt in range(MOST_REFUSED):
            if constraint.allows(token):
                break
            allowed = constraint.narrow(logits, token)
            if math.isinf(allowed.max()) or (attempt and constraint.is_bound):  # by a bias, perhaps
                raise GrammarError("no token of the model's vocabulary can go on as the grammar asks")
            token = self._choose(allowed)
        else:
            raise GrammarError("the model ends its reasoning only with what is no beginning of such an answer")
        if not self.greedy:
            self.llama.llama_sampler_accept(self.chain, token)
        return token

    def _likeliest(self, logits: Logits) -> int:
        best = int(logits.argmax())  # of several the first, as libllama's; a NaN counts as the largest
        if not math.isfinite(logits[best]):
            raise RunnerError(
                f"the model computed {logits[best]} instead of probabilities; its file is damaged, or the device ran"
                " out of range: try another file, or --n-gpu-layers 0"
            )
        return best

    def _choose(self, logits: Logits) -> int:
        """What the chain makes of these logits; it is not told yet that it was taken."""
        best = self._likeliest(logits)
        if self.greedy:
            return best
        if len(self._candidates) != len(logits):
            self._candidates = np.zeros(len(logits), _CANDIDATE)
        found, llama = self._candidates, self.llama
        found["id"], found["logit"], found["p"] = np.arange(len(logits)), logits, 0
        data = ctypes.cast(found.ctypes.data, ctypes.POINTER(llama.llama_token_data))
        array = llama.llama_token_data_array(data, len(found), -1, False)
        llama.llama_sampler_apply(self.chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def logits(self, context: Any, row: int = -1) -> Logits:
        """A row's logits, `(n_vocab,) float32`: libllama's own memory, valid until it decodes again."""
        pointer = self.llama.llama_get_logits_ith(context, row)
        if not pointer:
            raise RunnerError("the model gives no probabilities for a next token; it is not one that writes text")
        address = ctypes.addressof(pointer.contents)
        if address != self._address:
            self._address, self._view = address, np.ctypeslib.as_array(pointer, shape=(self.vocabulary.size,))
        return self._view

    def probabilities(self, context: Any, tokens: Sequence[int], count: int, row: int = -1) -> list[TokenProbability]:
        """Those of `tokens`, then the `count` likeliest in falling order; before any sampler changed them."""
        logits = self.logits(context, row).astype(np.float64)
        count = min(count, len(logits))
        top = np.argpartition(logits, -count)[-count:] if count else np.zeros(0, np.int64)
        ranked = top[np.argsort(-logits[top], kind="stable")]
        highest = logits.max()
        whole = highest + math.log(np.exp(logits - highest).sum())
        wanted = [*tokens, *(int(token) for token in ranked)]
        return [
            TokenProbability(token, self.vocabulary.piece(token, special=True), float(logits[token] - whole))
            for token in wanted
        ]

    def close(self) -> None:
        """Free the chain."""
        if self.chain:
            self.llama.llama_sampler_free(self.chain)
            self.chain = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
