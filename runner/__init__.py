"""From a GGUF file to tokens, messages and answers."""

from nemotron_gguf.runner.chat.going_on import Begun
from nemotron_gguf.runner.chat.template import ChatTemplate
from nemotron_gguf.runner.conversation import Conversation
from nemotron_gguf.runner.engine.library import Device, DeviceKind
from nemotron_gguf.runner.errors import (
    ContextOverflowError,
    EngineBusyError,
    EngineDiedError,
    GrammarError,
    NoModelError,
    RunnerError,
    WishError,
)
from nemotron_gguf.runner.events import (
    Answer,
    AnyEvent,
    Done,
    Drawn,
    PromptProgress,
    Reasoning,
    Timings,
    ToolCall,
    TurnsDropped,
    Usage,
)
from nemotron_gguf.runner.model import ChatModel
from nemotron_gguf.runner.opening import aopen_model, open_model
from nemotron_gguf.runner.preflight.check import check_model, inspect_model
from nemotron_gguf.runner.process.client import Client
from nemotron_gguf.runner.process.stream import AnswerStream
from nemotron_gguf.runner.sampling import Sampling
from nemotron_gguf.runner.settings import Settings
from nemotron_gguf.runner.setup import Setup, set_up

__all__ = [
    "Answer",
    "AnswerStream",
    "AnyEvent",
    "Begun",
    "ChatModel",
    "ChatTemplate",
    "Client",
    "ContextOverflowError",
    "Conversation",
    "Device",
    "DeviceKind",
    "Done",
    "Drawn",
    "EngineBusyError",
    "EngineDiedError",
    "GrammarError",
    "NoModelError",
    "PromptProgress",
    "Reasoning",
    "RunnerError",
    "Sampling",
    "Settings",
    "Setup",
    "Timings",
    "ToolCall",
    "TurnsDropped",
    "Usage",
    "WishError",
    "aopen_model",
    "check_model",
    "inspect_model",
    "open_model",
    "set_up",
]
