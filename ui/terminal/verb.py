"""What `nemotron chat` does: one answer for a pipe or a script, or a session at the keyboard."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.runner import RunnerError, Settings
from nemotron_gguf.ui import console
from nemotron_gguf.ui.attachments import Attachment, compose, read
from nemotron_gguf.ui.loading import open_with_bar
from nemotron_gguf.ui.terminal.attach import read_pipe
from nemotron_gguf.ui.terminal.calling import Caller, ask_plainly
from nemotron_gguf.ui.terminal.form import Form
from nemotron_gguf.ui.terminal.keys import Ticker
from nemotron_gguf.ui.terminal.session import Session
from nemotron_gguf.ui.terminal.turn import answer, follow
from nemotron_gguf.ui.terminal.whole import Whole, several

if TYPE_CHECKING:
    from nemotron_gguf.runner import ChatModel, Conversation
    from nemotron_gguf.runner.events import Done
    from nemotron_gguf.ui.tools import ToolBox

INTERRUPTED = 130  # exit status of a program ended by Ctrl-C, as shells count it


def chat(
    path: str | Path,
    settings: Settings | None = None,
    *,
    message: str | None = None,
    system: str | None = None,
    thinking: bool = True,
    budget: int | None = None,
    low_effort: bool = False,
    files: Sequence[str] = (),
    form: Form | None = None,
    box: ToolBox | None = None,
    as_json: bool = False,
) -> None:
    """Talk with a model until the person leaves; with `message`, or one from a pipe, give one answer and return.

    `budget`: tokens it may think; `low_effort`: less, where the template has a switch for it. `files` go with the
    (first) message. `form`: of every answer. `box`: tools that it may call. `as_json`: print the one answer as an
    object.
    Raises NemotronError where the model cannot be loaded or the one answer fails, SystemExit(130) where it was stopped.
    """
    _prepare_streams()
    attached = [read(name) for name in files]
    question = _question(message, attached)
    if as_json and question is None:
        raise RunnerError("--json needs a message to answer; give one with --message or in a pipe")
    try:
        with open_with_bar(path, settings) as model:
            talk = model.conversation(system=system, thinking=thinking)
            talk.budget, talk.low_effort = budget, low_effort
            form = form or Form()
            talk.grammar, talk.json_schema = form.grammar, form.json_schema
            if box:
                talk.tools = tuple(box.specs())
            if question is None:
                _session(model, talk, attached, box)
            else:
                _one_answer(model, talk, question, as_json, form, Caller(box, ask_plainly) if box else None)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _question(message: str | None, attached: Sequence[Attachment]) -> str | None:
    """The one message to answer: given, from a pipe, or both; None for a session.

    Raises RunnerError where there is nothing to answer.
    """
    piped = read_pipe()
    if message is not None:
        return compose(message, [*attached, Attachment("", "text", piped)] if piped.strip() else attached)
    if sys.stdin is not None and sys.stdin.isatty():
        return None
    if not piped.strip():
        raise RunnerError("there is no message to answer; give one with --message, in a pipe, or type it in a terminal")
    return compose(piped, attached)


def _session(model: ChatModel, talk: Conversation, attached: Sequence[Attachment], box: ToolBox | None) -> None:
    session = Session(model, talk, box)
    session.files += attached
    session.run()


def _one_answer(
    model: ChatModel, talk: Conversation, question: str, as_json: bool, form: Form, caller: Caller | None
) -> None:
    if form.answers > 1:
        console.print_json({"model": model.name, "answers": several(talk, question, form)})
        return
    if as_json:
        talk.add_user(question)
        whole = Whole()

        def read() -> Done:
            return follow(talk, whole, Ticker(whole.tick), form.logprobs)

        done = caller.follow(talk, read(), read) if caller else read()
        console.print_json({"model": model.name, **whole.described(done)})
    else:
        done = answer(talk, question, caller)
    if done.finish_reason == "cancelled":
        raise SystemExit(INTERRUPTED)


def _prepare_streams() -> None:
    """What a terminal cannot show becomes a question mark instead of an error."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
