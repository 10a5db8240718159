"""The model's own chat template: messages to the text that the model reads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.chat import limits
from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.chat.limits import TooMuchError
from nemotron_gguf.runner.chat.literal import Literal, Prompt, Specials, free_mark, texts_in
from nemotron_gguf.runner.chat.messages import Message, Tool, clean, normalized, plain, switched
from nemotron_gguf.runner.chat.sandbox import Sandbox
from nemotron_gguf.runner.chat.traits import read_traits
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.preflight.vocabulary import tokens

__all__ = ["ChatTemplate", "Message", "Tool"]

_MAX_REASON = 300  # characters of a template's own message


class ChatTemplate:
    """A Jinja template from a file, rendered in a sandbox: it can compute text, within limits, and touch nothing else.

    Several threads may render; they take turns.
    """

    def __init__(self, source: str, special: Mapping[str, str] | None = None, name: str = "") -> None:
        """`special`: the texts of bos_token and eos_token; `name`: the model's.

        Raises RunnerError for a template that does not parse.
        """
        self.source, self.special = source, dict(special or {})
        self._sandbox = Sandbox()
        self._known: tuple[Specials, Literal] | None = None
        try:
            self._template = self._sandbox.compile(source)
            self.traits = read_traits(source, self._sandbox.variables(source), name)
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
        name = file.get("general.name")
        return cls(source, _special_tokens(file), name if isinstance(name, str) else "")

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        low_effort: bool = False,
    ) -> str:
        """The prompt, up to where the model goes on as the assistant.

        Messages may be in the form of OpenAI's API (arguments as JSON, contents in parts) or in that of `as_message`.
        Without `thinking`, no reasoning is left open, whatever the template does. Raises RunnerError, on one line, for
        whatever the template cannot render, refuses, or takes too much for.
        """
        prepared, variables = self._prepared(messages, tools, thinking, low_effort)
        prompt = self._render(prepared, variables)
        return prompt if thinking else self._closed(prompt)

    def prompt(
        self,
        messages: Sequence[Message],
        specials: Specials,
        *,
        tools: Sequence[Tool] = (),
        thinking: bool = True,
        low_effort: bool = False,
    ) -> Prompt:
        """As `render`, cut wherever a user's, a tool's or a file's text would be read as one of `specials`.

        Trusted with special tokens are the template, the system's messages, and what the assistant has said with the
        marks of reasoning and calls.
        """
        prepared, variables = self._prepared(messages, tools, thinking, low_effort)
        shown, literal = clean(self._render(prepared, variables)), self._literal(specials)
        found = Prompt(shown)
        if literal.concerns(prepared, variables["tools"]):
            mark = free_mark(shown, self.source, *texts_in([prepared, variables["tools"]]))
            marked = variables | {"tools": literal.of_others.marked(variables["tools"], mark)}
            found = literal.cut(clean(self._render(literal.marked(prepared, mark), marked)), mark, shown)
        return found if thinking else replace(found, text=self._closed(found.text))

    def _literal(self, specials: Specials) -> Literal:
        if self._known is None or self._known[0] != specials:
            form = self.traits.form
            marks = (form.begin, form.end, form.call_begin, form.call_end)
            self._known = specials, Literal.of(specials, self.source, marks)
        return self._known[1]

    def _prepared(
        self, messages: Sequence[Message], tools: Sequence[Tool], thinking: bool, low_effort: bool
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The messages as the template wants them, and its variables."""
        called = any(message.get("tool_calls") for message in messages if isinstance(message, Mapping))
        prepared = normalized(
            messages,
            mappings=not called or self._reads_mappings,
            parts=not self._reads_text,
            developer="developer" in self.source,
        )
        self._switch(prepared, thinking)
        variables: dict[str, Any] = {"tools": plain(list(tools), "the tools") or None}
        variables |= dict.fromkeys(self.traits.switch.names, thinking)
        variables |= self.traits.low_effort if low_effort else {}
        return prepared, variables

    def format_of(self, prompt: str) -> ChatFormat:
        """How an answer to a rendered prompt is marked."""
        form, ending = self._form, prompt.rstrip()
        thinking, closed = ending.endswith(form.begin), ending.endswith(form.end)
        return replace(form, thinking=thinking, may_open=not thinking and not closed)

    @cached_property
    def has_switch(self) -> bool:
        """Whether thinking can be switched on and off: a template that always begins a reasoning can be closed."""
        return self.traits.switch.kind != "none" or self.format_of(self._try([_hello()])).thinking

    @property
    def has_low_effort(self) -> bool:
        """Whether the template can ask for a short reasoning."""
        return bool(self.traits.low_effort)

    def _render(self, messages: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
        try:
            return self._attempt(messages, variables, limits.MAX_SECONDS)
        except TooMuchError as error:
            raise _too_much(error) from error
        except Exception as error:  # a template is a program: anything may come out of it
            raise RunnerError(f"the model's chat template refuses this conversation: {_one_line(error)}") from error

    def _attempt(self, messages: list[dict[str, Any]], variables: Mapping[str, Any], seconds: float) -> str:
        """Render; where that fails, once more with what templates that bear less can read.

        transformers gives None for tools that are not there, and leaves contents None; llama.cpp does neither.
        """
        values = {"messages": messages, "add_generation_prompt": True, **self.special, **variables}
        end = time.monotonic() + seconds
        try:
            return self._sandbox.render(self._template, values, seconds)
        except TooMuchError:
            raise
        except Exception:
            filled = [m | {"content": ""} if m.get("content") is None else m for m in messages]
            if filled == messages and values["tools"]:
                raise
            values = {key: value for key, value in values.items() if key != "tools" or value}
            return self._sandbox.render(self._template, values | {"messages": filled}, end - time.monotonic())

    def _switch(self, messages: list[dict[str, Any]], thinking: bool) -> None:
        switch = self.traits.switch
        wanted, other = (switch.on, switch.off) if thinking else (switch.off, switch.on)
        if wanted and switch.kind in ("user", "system"):
            switched(messages, self._switch_role, wanted, other)

    def _closed(self, prompt: str) -> str:
        """A prompt that leaves no reasoning open (as llama.cpp closes one)."""
        form = self.traits.form
        return prompt.rstrip() + form.end if self.format_of(prompt).thinking else prompt

    @cached_property
    def _form(self) -> ChatFormat:
        """The marks, with the white space around a reasoning's end that the template itself writes there.

        A model that was trained with one line break takes a blank line for the beginning of another reasoning.
        """
        form = self.traits.form
        answer = {"role": "assistant", "content": "needle answer", "reasoning_content": "needle thought"}
        shown = self._try([_hello(), answer]).partition("needle thought")[2].partition("needle answer")[0]
        before, mark, after = shown.partition(form.end)
        if not mark or before.strip() or after.strip():
            return form
        return replace(form, close=f"{form.bridge}{before}{mark}{after}")

    @cached_property
    def _switch_role(self) -> str:
        """Whose message the words go into: the user's where the template takes them out of it, else the system's."""
        switch = self.traits.switch
        if switch.kind == "system":
            return "system"
        shown = self._try([_hello(f"Hello. {switch.off}")])
        return "user" if shown and switch.off not in shown else "system"

    @cached_property
    def _reads_mappings(self) -> bool:
        """Whether the arguments of calls are to be mappings, found by trying: some templates take JSON texts alone."""

        def shown(arguments: object) -> str:
            call = {"id": "call00000", "type": "function", "function": {"name": "probe", "arguments": arguments}}
            answer = {"role": "assistant", "content": "", "tool_calls": [call]}
            return self._try([_hello(), answer, {"role": "tool", "content": "1", "tool_call_id": "call00000"}])

        as_mapping = shown({"needle_key": "needle value"})
        if "needle value" in as_mapping and "'needle_key': 'needle value'" not in as_mapping:
            return True
        return "needle value" not in shown('{"needle_key": "needle value"}')

    @cached_property
    def _reads_text(self) -> bool:
        """Whether contents are to be texts; a few templates know lists of parts alone."""
        if "needle" in self._try([_hello("needle")]):
            return True
        return "needle" not in self._try([{"role": "user", "content": [{"type": "text", "text": "needle"}]}])

    def _try(self, messages: list[dict[str, Any]]) -> str:
        """A prompt, empty where the template refuses."""
        try:
            return self._attempt(messages, {"tools": None}, limits.MAX_SECONDS * limits.SHARE_OF_TRIAL)
        except TooMuchError as error:
            raise _too_much(error) from error
        except Exception:
            return ""


def _too_much(error: TooMuchError) -> RunnerError:
    return RunnerError(
        f"the conversation is too much for the model's chat template ({error}); say less, or choose another file"
    )


def _hello(text: str = "Hello.") -> dict[str, Any]:
    return {"role": "user", "content": text}


def _one_line(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _MAX_REASON else line[:_MAX_REASON] + "…"


def _special_tokens(file: GGUFFile) -> dict[str, str]:
    words, found = tokens(file), {}
    for name in ("bos", "eos"):
        token = file.get(f"tokenizer.ggml.{name}_token_id")
        found[f"{name}_token"] = words[token] if isinstance(token, int) and 0 <= token < len(words) else ""
    return found
