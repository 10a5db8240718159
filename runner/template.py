"""The model's own chat template: messages to the text that the model reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeAlias

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.preflight import tokens

Message: TypeAlias = Mapping[str, Any]
"""A turn as chat templates know it: role, content, and perhaps reasoning_content or tool_calls."""

Tool: TypeAlias = Mapping[str, Any]
"""A tool in the form of OpenAI's API: {"type": "function", "function": {"name", "description", "parameters"}}."""


class ChatTemplate:
    """A Jinja template from a file, rendered in a sandbox: it can compute text and touch nothing else."""

    def __init__(self, source: str, special: Mapping[str, str] | None = None) -> None:
        """`special`: the texts of bos_token and eos_token. Raises RunnerError for a template that does not parse."""
        self.source, self.special = source, dict(special or {})
        try:
            self.template = _environment().from_string(source)
        except Exception as error:
            raise RunnerError(
                f"the model's chat template is not valid ({_one_line(error)}); convert it again"
            ) from error

    @classmethod
    def from_file(cls, file: GGUFFile) -> ChatTemplate:
        """The template under `tokenizer.chat_template`. Raises RunnerError where there is none."""
        source = file.get("tokenizer.chat_template")
        if not isinstance(source, str) or not source.strip():
            raise RunnerError(
                f"{file.path} has no chat template (tokenizer.chat_template), so it is no chat model;"
                " convert the checkpoint together with its chat_template.jinja"
            )
        return cls(source, _special_tokens(file))

    def render(self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), thinking: bool = True) -> str:
        """The prompt, up to where the model goes on as the assistant.

        Raises RunnerError, on one line, for whatever the template cannot render or refuses.
        """
        try:
            prompt: str = self.template.render(
                messages=messages,
                tools=list(tools) or None,
                enable_thinking=thinking,
                add_generation_prompt=True,
                **self.special,
            )
            return prompt
        except Exception as error:  # a template is a program: anything may come out of it
            raise RunnerError(f"the model's chat template refuses this conversation: {_one_line(error)}") from error

    @property
    def has_switch(self) -> bool:
        """Whether thinking can be switched on and off."""
        return "enable_thinking" in self.source


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _special_tokens(file: GGUFFile) -> dict[str, str]:
    words, found = tokens(file), {}
    for name in ("bos", "eos"):
        token = file.get(f"tokenizer.ggml.{name}_token_id")
        found[f"{name}_token"] = words[token] if isinstance(token, int) and 0 <= token < len(words) else ""
    return found


def _environment() -> Any:
    """What chat templates expect to find, as transformers provides it."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json  # Jinja's own escapes for HTML
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
