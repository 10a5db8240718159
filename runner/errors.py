"""This room's errors."""

from __future__ import annotations

from nemotron_gguf.models.errors import NemotronError


class RunnerError(NemotronError):
    """A model that cannot be loaded or run."""


class WishError(RunnerError):
    """A wish that makes no sense for this file or this machine: a token or a device that is not there."""

    is_misuse = True


class EngineBusyError(RunnerError):
    """So many requests wait for the engine that it takes no more for now."""


class NoModelError(RunnerError):
    """A sound file that holds something else than a whole model: a vocabulary, a header, an adapter, one of parts."""


class ContextOverflowError(RunnerError):
    """A prompt that takes more tokens than the context has room for."""


class EngineDiedError(RunnerError):
    """The engine's process ended by itself or was killed; the next request starts another."""


class GrammarError(RunnerError):
    """A grammar, or a schema, that cannot be kept to: it is wrong, too large, or asks for what no grammar can say."""


class OtherBitsError(RunnerError):
    """The output matrix alone does not give the very logits of the model, so that these must be kept themselves."""


BY_NAME: dict[str, type[RunnerError]] = {
    error.__name__: error
    for error in (
        RunnerError,
        WishError,
        EngineBusyError,
        ContextOverflowError,
        EngineDiedError,
        GrammarError,
        OtherBitsError,
    )
}
"""How an error is called between the two processes."""
