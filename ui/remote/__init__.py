"""Models that another server runs: llama-server, vLLM, Ollama, whatever speaks OpenAI's API."""

from nemotron_gguf.ui.remote.model import RemoteModel
from nemotron_gguf.ui.remote.stream import RemoteStream

__all__ = ["RemoteModel", "RemoteStream"]
