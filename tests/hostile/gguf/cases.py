"""What a spoiled model is: a draft, what the preflight says of it, and what libllama does with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.tests.hostile.gguf.draft import Draft, Info

DIES, HANGS, REFUSES, RUNS = "dies", "hangs", "refuses", "runs"


class Case(NamedTuple):
    """A spoiled draft, a piece of the preflight's line, and libllama's verdict."""

    make: Callable[[], Draft]
    words: str
    libllama: str


def tensor(draft: Draft, name: str, shape: tuple[int, ...], kind: GGMLType = GGMLType.F32) -> Draft:
    """A tensor more."""
    draft.tensors[name] = Info(shape, kind)
    return draft
