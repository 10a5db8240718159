"""From a GGUF file to tokens, messages and answers."""

from nemotron_gguf.runner.conversation import Conversation, Done, Event, Timings, Usage
from nemotron_gguf.runner.engine import Engine
from nemotron_gguf.runner.errors import EngineBusyError, RunnerError
from nemotron_gguf.runner.library import Device, DeviceKind, devices, library
from nemotron_gguf.runner.model import ChatModel, open_model
from nemotron_gguf.runner.preflight import inspect_model
from nemotron_gguf.runner.reasoning import Answer, Reasoning, ToolCall
from nemotron_gguf.runner.settings import Sampling, Settings, Setup
from nemotron_gguf.runner.template import ChatTemplate

__all__ = [
    "Answer",
    "ChatModel",
    "ChatTemplate",
    "Conversation",
    "Device",
    "DeviceKind",
    "Done",
    "Engine",
    "EngineBusyError",
    "Event",
    "Reasoning",
    "RunnerError",
    "Sampling",
    "Settings",
    "Setup",
    "Timings",
    "ToolCall",
    "Usage",
    "devices",
    "inspect_model",
    "library",
    "open_model",
]
