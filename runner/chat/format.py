"""How a model marks its reasoning and its tool calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

ToolStyle: TypeAlias = Literal["xml", "json", "none"]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The marks of an answer, as the model's template has them.

    `thinking`: whether the prompt leaves a reasoning open for the model to go on with. `begin`, `end`: the marks around
    a reasoning, empty where the model has none. `close`: what the engine writes to end a reasoning in the model's
    place, wherever it stands; `close_empty`: the same before the first token of a reasoning.
    `tools`: how calls look, Nemotron 3's XML or a JSON list between `call_begin` and `call_end`.
    `may_open`: whether the model may begin its answer with a reasoning of its own. `begun`: whether the prompt ends
    inside of what the model says, so that white space in front of what follows is a part of it.
    """

    thinking: bool = False
    begin: str = "<think>"
    end: str = "</think>"
    close: str = "\n</think>\n\n"
    tools: ToolStyle = "xml"
    call_begin: str = "<tool_call>"
    call_end: str = "</tool_call>"
    close_empty: str = "</think>"
    may_open: bool = True
    begun: bool = False

    @property
    def bridge(self) -> str:
        """What the engine adds to a reasoning that it closes, before the mark: a full stop, or a short sentence."""
        return self.close.partition(self.end)[0].rstrip() if self.end else ""
