"""A tab: which conversation it shows, and what a new one would be held with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nemotron_gguf.ui.chat.tree import Wishes

if TYPE_CHECKING:
    from nemotron_gguf.ui.chat.generation import Generation


@dataclass
class Visit:
    """What is known of a tab. `chat` is empty until something was said; `turn` counts what it has followed so far, and
    `generation` is the answer that was under way when the conversation was shown."""

    words: Mapping[str, str]
    wishes: Wishes
    chat: str = ""
    search: str = ""
    turn: int = 0
    generation: Generation | None = None
