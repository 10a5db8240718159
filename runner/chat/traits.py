"""What a chat template's source tells of the model: how thinking is switched, how answers are marked.

All that is known of families stands here. NVIDIA's words are from the model cards and templates on the Hub; "budget"
means the `ThinkingBudgetClient` of the cards of Nemotron Nano 9B v2 and Nemotron 3 Nano.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from nemotron_gguf.runner.chat.format import ChatFormat, ToolStyle

SwitchKind: TypeAlias = Literal["variable", "user", "system", "none"]

_REASONING = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
"""Marks around a reasoning, the usual ones first; Mistral's and Seed-OSS's templates have their own."""

_CLOSE = ".\n{end}\n\n"
"""NVIDIA's budget cuts a reasoning anywhere and writes a full stop, the mark and a blank line."""

_CLOSE_OTHERS = " …\n\nThe time for thinking is used up, so I answer now from what I have.\n{end}\n\n"
"""For models of other makers; Qwen's documentation does it so, in words of its own."""

_SKIPPED = "<think></think>"
"""NVIDIA's templates write a reasoning that was skipped with nothing in it; others write line breaks."""


@dataclass(frozen=True, slots=True)
class Switch:
    """How thinking is switched: by a variable, or by words at the end of a message of the user or the system.

    `on`, `off`: the variables' values or the words; empty words are not written.
    """

    kind: SwitchKind = "none"
    on: str = ""
    off: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a template: its switch, the variables that ask for less thinking, the marks of an answer."""

    switch: Switch
    low_effort: Mapping[str, Any]
    form: ChatFormat


def read_traits(source: str, variables: frozenset[str], name: str = "") -> Traits:
    """`variables`: those that the template reads and does not set; `name`: the model's, for where it tells more."""
    llama = _is_llama_nemotron(source, name)
    return Traits(_switch(source, variables, llama), _low_effort(variables), _form(source, llama))


def _switch(source: str, variables: frozenset[str], llama: bool) -> Switch:
    names = tuple(sorted({"enable_thinking", "thinking"} & variables))
    if names:  # Nemotron 3 and most others; DeepSeek and Granite call it `thinking`
        return Switch("variable", names=names)
    if "'reasoning': True" in source:  # Nemotron-H-8B/47B-Reasoning-128K
        return Switch("system", on="{'reasoning': True}", off="{'reasoning': False}")
    if "/no_think" in source:  # Nemotron Nano 9B/12B v2, Llama-3.3-Nemotron-Super-49B-v1.5: on by itself
        return Switch("user", off="/no_think")
    if llama:  # Llama-3.1-Nemotron-Nano/Ultra-v1, Llama-3.3-Nemotron-Super-49B-v1: NIM's "Reasoning Mode"
        return Switch("system", on="detailed thinking on", off="detailed thinking off")
    return Switch()


def _is_llama_nemotron(source: str, name: str) -> bool:
    """Whether this is one of the Llama-Nemotrons that think.

    The words stand on their cards and not in their templates, which are Llama 3's: only the name tells them apart.
    Llama-3.1-Nemotron-70B-Instruct has that name too, and does not think.
    """
    words = set(name.lower().replace("_", " ").replace("-", " ").split())
    thinks = "</think>" in source or not words.isdisjoint(("nano", "super", "ultra"))
    return "<|start_header_id|>" in source and "nemotron" in words and thinks


def _low_effort(variables: frozenset[str]) -> Mapping[str, Any]:
    """Nemotron 3 Super: `low_effort`; Ultra: `medium_effort`; gpt-oss and others: a word."""
    wanted = {"low_effort": True, "medium_effort": True, "reasoning_effort": "low"}
    return MappingProxyType({key: value for key, value in wanted.items() if key in variables})


def _form(source: str, llama: bool) -> ChatFormat:
    begin, end = next((marks for marks in _REASONING if marks[1] in source), _REASONING[0])
    budgeted = llama or "'reasoning': True" in source or _SKIPPED in source
    close = (_CLOSE if budgeted else _CLOSE_OTHERS).format(end=end)
    style, mark = _tools(source, llama)
    call_begin, call_end = (f"<{mark}>", f"</{mark}>") if mark else ("", "")
    return ChatFormat(
        begin=begin, end=end, close=close, close_empty=end, tools=style, call_begin=call_begin, call_end=call_end
    )


def _tools(source: str, llama: bool) -> tuple[ToolStyle, str]:
    """How calls look, and the tag around them; no tag where they are of another kind, and stay text."""
    if "<function=" in source and "<parameter=" in source:  # Nemotron 3, Qwen3-Coder; Seed-OSS has a tag of its own
        return "xml", "seed:tool_call" if "<seed:tool_call>" in source else "tool_call"
    if "<TOOLCALL>" in source or llama:  # Nano v2, Llama-Nemotrons; llama.cpp: common/chat-diff-analyzer.cpp
        return "json", "TOOLCALL"
    return ("json", "tool_call") if "<tool_call>" in source else ("none", "")  # Hermes, Qwen
