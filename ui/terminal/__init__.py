"""`nemotron chat`: a conversation in the terminal. Answers go to stdout; reasoning and words about it to stderr."""

from nemotron_gguf.ui.terminal.turn import answer
from nemotron_gguf.ui.terminal.verb import chat

__all__ = ["answer", "chat"]
