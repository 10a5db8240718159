"""What the model has read: libllama's context, and the tokens that are in its memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.library import failure, forget_failures
from nemotron_gguf.runner.settings import Setup

UBATCH = 512  # tokens read at a time, llama.cpp's default


class ContextFull(Exception):  # noqa: N818 - the end of an answer is no error
    """No room for another token."""


class Cancelled(Exception):  # noqa: N818 - somebody's wish is no error
    """The answer was stopped while its prompt was being read."""


class Context:
    """One sequence of tokens in memory.

    A recurrent state cannot be rolled back, and a sliding window forgets: there, memory is kept only if the new prompt
    goes on exactly where it ends. Elsewhere the common beginning is kept.
    """

    def __init__(self, llama: Any, model: Any, setup: Setup, n_vocab: int) -> None:
        self.llama, self.n_vocab = llama, n_vocab
        params = llama.llama_context_default_params()
        params.n_ctx = setup.ctx_size
        params.n_batch = params.n_ubatch = UBATCH
        params.n_threads = params.n_threads_batch = setup.threads
        params.no_perf = True
        forget_failures()
        self.handle = llama.llama_init_from_model(model, params)
        if not self.handle:
            why = failure("llama.cpp gave no reason")
            raise RunnerError(f"no context of {setup.ctx_size} tokens could be made ({why}); try a smaller --ctx-size")
        self.memory = llama.llama_get_memory(self.handle)
        if not self.memory:
            self.close()
            raise RunnerError("this model keeps no memory of a text, so it cannot hold a conversation")
        self.size = min(int(llama.llama_n_ctx_seq(self.handle)), setup.ctx_size)
        self.step = min(UBATCH, int(llama.llama_n_batch(self.handle)))
        self.can_roll_back = not (
            llama.llama_model_is_hybrid(model)
            or llama.llama_model_is_recurrent(model)
            or llama.llama_model_n_swa(model)
        )
        self.tokens: list[int] = []
        self.cancelled = threading.Event()  # of the answer under way
        # called from within a computation on the CPU, so that a long prompt can be stopped at once
        self._abort = llama.ggml_abort_callback(self._is_cancelled)
        self._never = llama.ggml_abort_callback()

    def _is_cancelled(self, _data: object) -> bool:
        try:
            return self.cancelled.is_set()
        except KeyboardInterrupt:  # ctypes would print and drop it
            self.cancelled.set()
            return True

    def read(self, prompt: Sequence[int]) -> int:
        """Bring the memory to exactly `prompt`; returns how many of its tokens were there already.

        Raises RunnerError for a prompt that is empty, too long or no tokens of this model, Cancelled when stopped.
        """
        self._check(prompt)
        kept = self._keep(prompt)
        self.llama.llama_set_abort_callback(self.handle, self._abort, None)
        try:
            for start in range(kept, len(prompt), self.step):
                if self.cancelled.is_set():
                    raise Cancelled
                self.append(prompt[start : start + self.step])
        finally:
            # while generating it is not needed, and would wait for the interpreter at every operation
            self.llama.llama_set_abort_callback(self.handle, self._never, None)
        return kept

    def _check(self, prompt: Sequence[int]) -> None:
        if not prompt:
            raise RunnerError("there is nothing to answer: the prompt has no tokens")
        if len(prompt) >= self.size:
            raise RunnerError(
                f"the conversation takes {len(prompt)} tokens, the context has {self.size}; begin a new one, say less,"
                " or start with a larger --ctx-size"
            )
        wrong = next((token for token in prompt if not 0 <= token < self.n_vocab), None)
        if wrong is not None:
            raise RunnerError(f"token {wrong} is not in the vocabulary of {self.n_vocab}")

    def _keep(self, prompt: Sequence[int]) -> int:
        """Drop from memory what the prompt does not begin with; the last token is read again for its logits."""
        common = 0
        for have, want in zip(self.tokens, prompt[:-1], strict=False):
            if have != want:
                break
            common += 1
        if common == len(self.tokens):
            return common
        if not (common and self.can_roll_back and self.llama.llama_memory_seq_rm(self.memory, 0, common, -1)):
            self.clear()
            return 0
        del self.tokens[common:]
        return common

    def append(self, tokens: Sequence[int]) -> None:
        """Read a few more tokens, at most `step`.

        Raises ContextFull, Cancelled, or RunnerError where the computation fails; memory is cleared then.
        """
        if len(self.tokens) + len(tokens) > self.size:
            raise ContextFull
        ids = (self.llama.llama_token * len(tokens))(*tokens)
        forget_failures()
        status = self.llama.llama_decode(self.handle, self.llama.llama_batch_get_one(ids, len(tokens)))
        if status == 0:
            self.tokens.extend(tokens)
            return
        self.clear()
        if status == 1:
            raise ContextFull
        if status == 2:
            raise Cancelled
        why = failure(f"llama_decode returned {status}")
        raise RunnerError(
            f"the model could not compute ({why}); with less memory in use it may: try a smaller --ctx-size"
        )

    def clear(self) -> None:
        """Forget everything."""
        self.llama.llama_memory_clear(self.memory, True)
        self.tokens.clear()

    def close(self) -> None:
        """Free the context."""
        if self.handle:
            self.llama.llama_free(self.handle)
            self.handle = None
