"""A prompt behind which the model goes on with an answer that was cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nemotron_gguf.runner.chat.format import ChatFormat


@dataclass(frozen=True, slots=True)
class Begun:
    """What the model has said of an answer so far."""

    reasoning: str = ""
    answer: str = ""

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.answer)


def going_on(prompt: str, form: ChatFormat, begun: Begun) -> tuple[str, ChatFormat]:
    """The prompt with what was said behind it, and how what follows is marked.

    A reasoning is left out where the prompt has closed it already: thinking was switched off meanwhile.
    """
    said, thinking = prompt, form.thinking
    if begun.reasoning and (form.thinking or form.may_open):
        said += begun.reasoning if form.thinking else f"{form.begin}\n{begun.reasoning}"
        thinking = True
    if begun.answer:
        if thinking:
            said += form.close.removeprefix(form.bridge) if begun.reasoning else form.close_empty
        said, thinking = said + begun.answer, False
    return said, replace(form, thinking=thinking, may_open=False, begun=True)
