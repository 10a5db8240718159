"""The texts that come with the program: one to calibrate on, one of the same kinds to measure with.

They lie here as data; conversations are rendered with the model's own template, so that its own markers are in them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.chat.template import ChatTemplate
from nemotron_gguf.runner.errors import RunnerError

Part: TypeAlias = Literal["calibration", "held_out"]
PLAIN = ("english.txt", "chinese.txt", "code.txt", "mathematics.txt")
CONVERSATIONS = "conversations.jsonl"


@dataclass(frozen=True, slots=True)
class Text:
    """A text by its name; `special`: whether the markers that are spelled out in it are special tokens."""

    name: str
    text: str
    special: bool = False


def calibration_texts(file: GGUFFile) -> tuple[Text, ...]:
    """English, Chinese, code, mathematics, and conversations in the format of a file that has a chat template."""
    return _texts("calibration", file)


def held_out_texts(file: GGUFFile) -> tuple[Text, ...]:
    """The same kinds, of which nothing was calibrated on: to measure with."""
    return _texts("held_out", file)


def _texts(part: Part, file: GGUFFile) -> tuple[Text, ...]:
    plain = tuple(Text(name, _read(part, name).removesuffix("\n")) for name in PLAIN)
    try:
        template = ChatTemplate.from_file(file)
    except RunnerError:  # a base model: it knows no markers
        return plain
    return *plain, Text(CONVERSATIONS, rendered(template, part), special=True)


def rendered(template: ChatTemplate, part: Part) -> str:
    """All conversations, one after the other; those that a template refuses (tools, for one) are left out.

    Raises RunnerError where it refuses all.
    """
    found = []
    reason = ""
    for line in _read(part, CONVERSATIONS).splitlines():
        talk = json.loads(line)
        try:
            found.append(_render(template, talk))
        except RunnerError as error:
            reason = str(error)
    if not found:
        raise RunnerError(reason)
    return "".join(found)


def _render(template: ChatTemplate, talk: dict[str, Any]) -> str:
    """A conversation to its end: without the beginning of another answer, which a template puts there."""
    shown = template.render(talk["messages"], tools=talk.get("tools", ()))
    said = talk["messages"][-1]["content"]
    end = shown.rfind(said) + len(said) if said and said in shown else len(shown)
    tail = shown[end:]
    form = template.traits.form.begin
    return shown[:end] + (tail.partition(form)[0] if form else tail)


@cache
def _read(part: Part, name: str) -> str:
    return (Path(__file__).parent / part / name).read_text(encoding="utf-8")
