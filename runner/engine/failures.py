"""An error as the front is told of it."""

from __future__ import annotations

import sys
import traceback

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.runner.errors import BY_NAME, RunnerError
from nemotron_gguf.runner.process.messages import Failed


def failed(error: BaseException) -> Failed:
    """The reply for an error: its class by name, where it is one of this room's."""
    if isinstance(error, NemotronError):
        name = type(error).__name__
        return Failed(name if name in BY_NAME else RunnerError.__name__, str(error))
    traceback.print_exception(error, file=sys.stderr)
    return Failed(RunnerError.__name__, f"a mistake of this program: {type(error).__name__}: {error}; please report it")
