"""The verbs that talk: chat in the terminal, the page in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from nemotron_gguf.ui.drawing import Drawing
from nemotron_gguf.ui.options import with_groups
from nemotron_gguf.ui.placing import Placing, settings_of, show_plan
from nemotron_gguf.ui.shaping import Shaping
from nemotron_gguf.ui.shelf import FILE_HELP, resolve
from nemotron_gguf.ui.tooling import Tooling

SIDE_BY_SIDE = 8  # of several answers to one message
TABS = 2  # answers at a time in the browser, where nobody said how many

File = Annotated[str, typer.Argument(metavar="MODEL", help=FILE_HELP)]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="The system message, which sets the tone.")]
Thinking = Annotated[bool, typer.Option("--thinking/--no-thinking", help="Think before answering, or answer at once.")]
LowEffort = Annotated[
    bool, typer.Option("--low-effort", help="Think less, where the model's template has a switch for it.")
]
Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Ask this, print the answer, leave.")
]
Budget = Annotated[int | None, typer.Option(min=0, metavar="N", help="Think N tokens at most, then answer.")]
Attached = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="PATH",
        help="A file that goes with the message (text, code, CSV, PDF, DOCX); several are possible.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="With a message: print one JSON object once the answer is complete.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say where the model would go, and load nothing.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, metavar="N", help="Port on 127.0.0.1; the first free from 7860 on.")
]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (chat, ui):
        app.command()(with_groups(verb))


def chat(
    file: File,
    placing: Placing,
    drawing: Drawing,
    shaping: Shaping,
    tooling: Tooling,
    message: Message = None,
    attach: Attached = None,
    system: System = None,
    thinking: Thinking = True,
    budget: Budget = None,
    low_effort: LowEffort = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Talk with a model in the terminal; its reasoning is shown apart from its answer.

    Type a message and Enter; /help lists what else can be typed: files, editing, saving, thinking. Ctrl-C stops an
    answer, Ctrl-T ends its thinking, Ctrl-D leaves. With `--message`, or text from a pipe, it answers once: the answer
    goes to stdout, everything else to stderr, and a text that is piped in beside a message is attached to it.

    `--json` prints an object with answer, reasoning, tool_calls, finish_reason, usage (tokens), timings (seconds,
    tokens a second), context_used and context_size; with `--answers N` a list `answers` of such objects. Exit status:
    130 where it was stopped. What is typed is remembered in the user's state folder, unless NEMOTRON_HISTORY=off.

    Where the model goes is decided by what fits; `--dry-run` says it. Before a tool that acts is called, you are asked.

    Examples:

    `nemotron chat MODEL.gguf -m "Why is the sky blue?" --no-thinking > answer.md`

    `cat build.log | nemotron chat MODEL.gguf -m "what broke?"`

    `nemotron chat MODEL.gguf -f notes.txt -f plan.md -m "what did we forget?" --budget 500`

    `nemotron chat MODEL.gguf --tools calculator,clock,folder=notes --mcp-config mcp.json`
    """
    from nemotron_gguf.ui import terminal

    if message is not None and not message.strip():
        raise typer.BadParameter("there is nothing in it to answer", param_hint="--message")
    form = shaping.read(as_json, has_tools=tooling.wanted)
    settings = settings_of(placing, drawing, **_beside(placing, min(form.answers, SIDE_BY_SIDE)))
    if dry_run:
        show_plan(resolve(file), settings, as_json)
        return
    with tooling.opened() as box:
        terminal.chat(
            resolve(file),
            settings,
            message=message,
            system=system,
            thinking=thinking,
            budget=budget,
            low_effort=low_effort,
            files=attach or (),
            form=form,
            box=box,
            as_json=as_json,
        )


def ui(
    file: File,
    placing: Placing,
    drawing: Drawing,
    port: Port = None,
    system: System = None,
    thinking: Thinking = True,
    dry_run: DryRun = False,
) -> None:
    """Open a chat page on this machine (127.0.0.1) for the browser, in English or Chinese.

    Conversations are kept in the user's data folder, or in the file that NEMOTRON_CHATS names. Enter sends a message,
    Esc stops an answer, Ctrl-K begins a conversation, the arrow up in an empty box edits the last question.

    Example: `nemotron ui unsloth/Nemotron-3-Nano-30B-A3B-GGUF:Q4_K_M`
    """
    from nemotron_gguf.ui import chat as page

    settings = settings_of(placing, drawing, **_beside(placing, TABS))
    if dry_run:
        show_plan(resolve(file), settings, as_json=False)
        return
    page.serve(resolve(file), settings, port=port, system=system, thinking=thinking)


def _beside(placing: Placing, count: int) -> dict[str, int]:
    """How many answers are given at a time, where nobody said it."""
    return {} if placing.parallel or count == 1 else {"parallel": count}
