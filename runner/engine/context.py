"""What the model has read: libllama's context, whose memory several sequences of tokens share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nemotron_gguf.runner.engine.batch import Batch, Part, Row
from nemotron_gguf.runner.engine.library import failure, forget_failures
from nemotron_gguf.runner.engine.loading import new_context
from nemotron_gguf.runner.errors import ContextOverflowError, RunnerError
from nemotron_gguf.runner.placement.placement import Placement

State: TypeAlias = npt.NDArray[np.uint8]
"""A copy of a sequence's memory, in libllama's own form."""

_WHOLE, _PARTIAL = 0, 1  # LLAMA_STATE_SEQ_FLAGS_NONE, …_PARTIAL_ONLY (include/llama.h)


class ContextFull(Exception):  # noqa: N818 - the end of an answer is no error
    """No room for another token."""


class Cancelled(Exception):  # noqa: N818 - somebody's wish is no error
    """The answer was stopped while its prompt was being read."""


class Context:
    """Memory for `n_sequences` sequences, numbered from 0; each may take all that is free.

    Keys and values lie by position and can be cut anywhere. A recurrent state cannot be rolled back, and a sliding
    window forgets: where a model has one of them (`rolls_back` is false) a sequence can only be cut where a copy was
    kept (`snapshot` with `partial`), which is put back first (src/llama-memory-hybrid.cpp, llama-kv-cache-iswa.cpp).

    Of the `lookup` latest tokens of one computation, and no others, libllama can have kept the states itself
    (`n_rs_seq`, src/llama-memory-recurrent.cpp): they can be cut off once, right behind it. It notes where the state
    then is; a snapshot, a copy to another sequence and the next computation all look there.
    """

    def __init__(self, llama: Any, model: Any, placement: Placement) -> None:
        self.llama = llama
        self.handle = new_context(llama, model, placement)
        self.memory = llama.llama_get_memory(self.handle)
        if not self.memory:
            self.close()
            raise RunnerError("this model keeps no memory of a text, so it cannot hold a conversation")
        self.n_sequences = int(llama.llama_n_seq_max(self.handle))
        self.size = min(int(llama.llama_n_ctx_seq(self.handle)), placement.ctx_size)
        self.step = int(llama.llama_n_batch(self.handle))
        self.rolls_back = not (
            llama.llama_model_is_hybrid(model)
            or llama.llama_model_is_recurrent(model)
            or llama.llama_model_n_swa(model)
        )
        kept = placement.lookup if self.rolls_back else min(int(llama.llama_n_rs_seq(self.handle)), placement.lookup)
        self.lookup = min(kept, self.step - 1)  # tokens that can be taken back
        self.decode_seconds = 0.0  # spent in libllama so far
        self._batch = Batch(llama, max(self.step, self.n_sequences))
        # called from within a computation on the CPU, so that a long prompt can be stopped at once
        self._stopped: Callable[[], bool] = lambda: False
        self._abort = llama.ggml_abort_callback(lambda _data: self._stopped())
        self._never = llama.ggml_abort_callback()

    def overflow(self, count: str) -> ContextOverflowError:
        """The error for a prompt of so many tokens."""
        return ContextOverflowError(
            f"the conversation takes {count} tokens, the context has {self.size}; begin a new one, say less,"
            " or start with a larger --ctx-size"
        )

    def read(
        self,
        sequence: int,
        tokens: Sequence[int],
        position: int,
        *,
        wanted: bool = True,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        """Read some more tokens of a sequence, at most `step`; with `wanted` their last one's probabilities are row -1.

        `stopped` is asked in the middle where the device can be interrupted. Raises ContextFull where there is no room,
        with the memory as it was; Cancelled, and RunnerError where the computation fails: what the sequence holds from
        `position` on, and its recurrent state, are undefined then.
        """
        self.read_parts([Part(tokens, sequence, position, wanted)], stopped)

    def read_parts(self, parts: Sequence[Part], stopped: Callable[[], bool] | None = None) -> None:
        """Read some more tokens of several sequences, at most `step` in all.

        libllama computes in one go what is of the same length. A row of probabilities is known by the place of its
        token among all of them. Raises as `read` does, for all of the sequences.
        """
        batch = self._batch.of_parts(parts)
        if stopped is None:
            self._decode(batch)
            return
        self._stopped = stopped
        self.llama.llama_set_abort_callback(self.handle, self._abort, None)
        try:
            self._decode(batch)
        finally:
            # while generating it is not needed, and would wait for the interpreter at every operation
            self.llama.llama_set_abort_callback(self.handle, self._never, None)

    def advance(self, rows: Sequence[Row]) -> None:
        """Read one token each of several sequences, whose probabilities are in the rows of the same order.

        Or several of one sequence, which may be cut right behind the first of them, or later. Raises as `read` does,
        for all of the sequences.
        """
        self._decode(self._batch.of_rows(rows))

    def _decode(self, batch: Any) -> None:
        forget_failures()
        begun = perf_counter()
        status = int(self.llama.llama_decode(self.handle, batch))
        self.llama.llama_synchronize(self.handle)
        self.decode_seconds += perf_counter() - begun
        if status == 0:
            return
        if status == 1:
            raise ContextFull
        if status == 2:
            raise Cancelled
        why = failure(f"llama_decode returned {status}")
        raise RunnerError(
            f"the model could not compute ({why}); with less memory in use it may: try a smaller --ctx-size"
        )

    def cut(self, sequence: int, position: int) -> None:
        """Forget a sequence's tokens from a position on.

        There its recurrent state, if it has one, must be already; or behind the first token of the last computation, at
        least, and within `lookup` of its end. libllama takes other states for that where it kept none.
        """
        removed = self.llama.llama_memory_seq_rm(self.memory, sequence, position, -1)
        assert removed, f"sequence {sequence} cannot be cut at {position}"

    def forget(self, sequence: int) -> None:
        """Forget all of a sequence."""
        self.llama.llama_memory_seq_rm(self.memory, sequence, -1, -1)

    def share(self, source: int, target: int, end: int) -> None:
        """Let an empty sequence begin with the first `end` tokens of another, whose keys and values they then share.

        The recurrent state is the source's of now.
        """
        self.llama.llama_memory_seq_cp(self.memory, source, target, 0, end)

    def snapshot(self, sequence: int, *, partial: bool) -> State:
        """A copy of a sequence's memory; with `partial` only of what cannot be cut. Raises RunnerError."""
        flags = _PARTIAL if partial else _WHOLE
        size = int(self.llama.llama_state_seq_get_size_ext(self.handle, sequence, flags))
        state = np.empty(size, np.uint8)
        found = self.llama.llama_state_seq_get_data_ext(self.handle, _address(state), size, sequence, flags)
        if not found or found != size:
            raise RunnerError(f"llama.cpp could not copy a sequence's memory ({failure('it gave no reason')})")
        return state

    def restore(self, sequence: int, state: State, *, partial: bool) -> None:
        """Put a copy back, into this sequence or another. Raises RunnerError; the sequence is undefined then."""
        forget_failures()
        flags = _PARTIAL if partial else _WHOLE
        found = self.llama.llama_state_seq_set_data_ext(self.handle, _address(state), state.nbytes, sequence, flags)
        if not found:
            why = failure("it gave no reason")
            raise RunnerError(f"llama.cpp could not put a sequence's memory back ({why})")

    def length(self, sequence: int) -> int:
        """Tokens up to the last that libllama has of a sequence."""
        return int(self.llama.llama_memory_seq_pos_max(self.memory, sequence)) + 1

    def state_size(self, sequence: int) -> int:
        """Bytes of a copy of all of a sequence's memory."""
        return int(self.llama.llama_state_seq_get_size_ext(self.handle, sequence, _WHOLE))

    def clear(self) -> None:
        """Forget everything."""
        self.llama.llama_memory_clear(self.memory, True)

    def close(self) -> None:
        """Free the context."""
        if self.handle:
            self.llama.llama_free(self.handle)
            self.handle = 0


def _address(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
