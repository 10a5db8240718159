"""System messages and samplings to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from nemotron_gguf.runner import Sampling
from nemotron_gguf.ui.chat.tree import Wishes
from nemotron_gguf.ui.chat.words import CHINESE

PROMPTS: Mapping[str, tuple[str, str]] = {
    "none": ("", ""),
    "brief": (
        (
            "Answer briefly. Give the result first, in as few sentences as it takes; no introduction, no summary, no"
            " repetition of the question. Say more only when asked to."
        ),
        "回答要简短。先给出结果，用尽量少的句子；不要开场白，不要总结，不要重复问题。只有在被要求时才详细说明。",
    ),
    "teacher": (
        (
            "You are a patient teacher. Explain step by step, in plain words and with one small example, and end with a"
            " question that shows whether it was understood."
        ),
        "你是一位耐心的老师。用浅显的话一步一步讲解，举一个小例子，最后提一个问题，看看对方是否理解。",
    ),
    "code": (
        "Answer with code alone, in one block that runs as it is. Comments only where a reader would wonder.",
        "只用代码回答，放在一个可以直接运行的代码块里。只在读者会疑惑的地方写注释。",
    ),
    "translate": (
        "Translate what I write: Chinese into English, anything else into Chinese. Give the translation alone.",
        "翻译我写的内容：中文译成英文，其他语言译成中文。只给出译文。",
    ),
}
"""Ours, in English and Chinese, by the part of their name after `preset_`."""

OWN = "own"
MINE = "mine:"
"""Before the name of a preset of the user's."""

SAMPLINGS: Mapping[str, Mapping[str, float | int]] = {
    "file": {},
    # the card of NVIDIA-Nemotron-3-Nano-30B-A3B: 0.6 and 0.95 for tools, 1.0 and 1.0 for reasoning
    "card": {"temperature": 0.6, "top_p": 0.95},
    "exact": {"temperature": 0.0},
    "wide": {"temperature": 1.0, "top_p": 1.0},
}

DRAWN = ("temperature", "top_p", "top_k", "min_p")
"""What of a sampling the page sets."""


def prompt_choices(words: Mapping[str, str], own: Mapping[str, str]) -> list[tuple[str, str]]:
    """(what is shown, the preset's key), ours first."""
    ours = [(words[f"preset_{key}"], key) for key in PROMPTS]
    return [*ours, *((f"★ {name}", MINE + name) for name in own), (words["preset_own"], OWN)]


def prompt_text(key: str, words: Mapping[str, str], own: Mapping[str, str]) -> str:
    """The system message of a preset."""
    if key.startswith(MINE):
        return own.get(key.removeprefix(MINE), "")
    return PROMPTS.get(key, PROMPTS["none"])[words is CHINESE]


def prompt_key(system: str, own: Mapping[str, str]) -> str:
    """The preset whose text this is."""
    ours = next((key for key, texts in PROMPTS.items() if system in texts), "")
    mine = next((MINE + name for name, text in own.items() if text == system), "")
    return ours or mine or OWN


def sampling_choices(words: Mapping[str, str]) -> list[tuple[str, str]]:
    """(what is shown, the preset's key)."""
    return [(words[f"sampling_{key}"], key) for key in (*SAMPLINGS, OWN)]


def with_sampling(wishes: Wishes, key: str) -> Wishes:
    """The wishes with a preset's numbers; what it does not name is the file's."""
    numbers = dict.fromkeys(DRAWN) | dict(SAMPLINGS.get(key, {}))
    return msgspec.structs.replace(wishes, **numbers)


def sampling_key(wishes: Wishes) -> str:
    """The preset that these wishes are."""
    return next((key for key in SAMPLINGS if with_sampling(wishes, key) == wishes), OWN)


def sampling_of(wishes: Wishes, base: Sampling) -> Sampling:
    """How tokens are drawn: the conversation's word first, then the file's."""
    set_here = {name: getattr(wishes, name) for name in DRAWN if getattr(wishes, name) is not None}
    return replace(base, **set_here)
