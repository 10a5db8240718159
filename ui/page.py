"""`nemotron ui`: one plain chat page in the browser, over the same conversations as the terminal's."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemotron_gguf.runner import (
    Answer,
    ChatModel,
    Conversation,
    Done,
    EngineBusyError,
    Reasoning,
    RunnerError,
    Settings,
    open_model,
)
from nemotron_gguf.ui import console
from nemotron_gguf.ui.page_texts import TEXTS, words_for

HOST = "127.0.0.1"
DEFAULT_PORT = 7860
PORTS_TRIED = 20
REDRAW = 0.05  # seconds between two states of an answer that are sent to the browser
LONGEST_MESSAGE = 200_000  # characters

# nothing on the page, a picture in an answer included, may reach another machine
CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-ancestors 'none';"
    " form-action 'self'; base-uri 'self'"
)

Row = dict[str, Any]
"""A message as the page's chatbot shows it: role, content, and a title in `metadata` for what is folded."""


def serve(
    path: str | Path,
    settings: Settings | None = None,
    *,
    port: int | None = None,
    system: str | None = None,
    thinking: bool = True,
    verbose: bool = False,
) -> None:
    """Load a model and serve its page on this machine alone, until Ctrl-C.

    Where the port is taken the next free one is used, and said. Raises NemotronError where the model cannot be loaded
    or no port is free.
    """
    chosen = free_port(port or DEFAULT_PORT)
    console.note(f"loading {path} …")
    with open_model(path, settings, verbose=verbose) as model:
        console.note(model.describe())
        if port not in (None, chosen):
            console.note(f"port {port} is taken; {chosen} is used instead")
        page = build(model, system=system, thinking=thinking)
        console.say(f"The page is at http://{HOST}:{chosen} (Ctrl-C ends it)")
        launch(page, chosen, wait=True)


def free_port(first: int) -> int:
    """The first free port from `first` on. Raises RunnerError where none of the next few is free."""
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RunnerError(f"no port from {first} to {first + PORTS_TRIED - 1} is free on {HOST}; choose one with --port")


def import_gradio() -> Any:
    """Gradio, with its reports to its makers switched off, which must happen before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    return gradio


def build(model: ChatModel, *, system: str | None = None, thinking: bool = True) -> Any:
    """The page, a `gradio.Blocks`, ready to be launched."""
    gr = import_gradio()
    text = _i18n(gr)
    with gr.Blocks(title=model.name, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"### {_plain(model.name)}\n{_plain(model.setup.describe())}", elem_id="about")
        chatbot = gr.Chatbot(
            label=text("conversation"),
            elem_id="chat",
            scale=1,
            min_height=240,
            placeholder=text("welcome"),
            buttons=["copy"],
        )
        message = gr.Textbox(
            label=text("message"),
            placeholder=text("hint"),
            elem_id="message",
            autofocus=True,
            max_length=LONGEST_MESSAGE,
        )
        with gr.Row(elem_id="buttons"):
            switch = gr.Checkbox(
                thinking,
                label=text("thinking"),
                elem_id="thinking",
                interactive=model.template.has_switch,
                min_width=120,
            )
            send = gr.Button(text("send"), variant="primary", elem_id="send", min_width=80)
            stop = gr.Button(text("stop"), variant="stop", elem_id="stop", interactive=False, min_width=80)
            clear = gr.Button(text("clear"), elem_id="clear", min_width=80)
        visit = gr.State(None)

        def ask(said: str, kept: Conversation | None, think: bool, request: Any) -> Iterator[Any]:
            conversation = kept or model.conversation(system=system)
            conversation.thinking = think
            words = words_for(request.headers.get("accept-language", ""))
            for box, rows, busy in turn(conversation, said, words, gr.Warning):
                buttons = [gr.Button(interactive=on) for on in (not busy, busy, not busy)]
                yield box, rows, conversation, *buttons

        ask.__annotations__["request"] = gr.Request  # how Gradio knows what to hand over; not there at import time
        everything = {"api_visibility": "private", "show_progress": "hidden"}
        outputs = [message, chatbot, visit, send, stop, clear]
        gr.on(
            [message.submit, send.click], ask, [message, visit, switch], outputs, concurrency_limit=None, **everything
        )
        stop.click(_stop, visit, None, queue=False, **everything)
        clear.click(lambda: ("", [], None), None, [message, chatbot, visit], queue=False, **everything)
    return page


def launch(page: Any, port: int, *, wait: bool) -> None:
    """Serve a page; with `wait`, until it is interrupted."""
    from starlette.middleware import Middleware

    gr = import_gradio()
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        quiet=True,
        footer_links=["settings"],
        prevent_thread_lock=not wait,
        i18n=gr.I18n(**TEXTS),
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        app_kwargs={"middleware": [Middleware(_Policy)]},
    )


class _Policy:
    """Adds the content policy to every page."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", CONTENT_POLICY.encode("ascii"))
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self.app(scope, receive, send_with_policy if scope["type"] == "http" else send)


def _i18n(gr: Any) -> Any:
    return gr.I18n(**TEXTS)


def _stop(conversation: Conversation | None) -> None:
    if conversation:
        conversation.stop()


def turn(
    conversation: Conversation, said: str, words: Mapping[str, str], warn: Any
) -> Iterator[tuple[str, list[Row], bool]]:
    """One question and its answer, as states of the page: the message box, the rows, whether an answer is under way.

    Where it fails, `warn` is called with the reason and the question is back in the box.
    """
    if not said.strip():
        yield said, rows(conversation.messages, words), False
        return
    conversation.add_user(said)
    thought, spoken, drawn = "", "", 0.0
    yield "", rows(conversation.messages, words), True
    try:
        for event in conversation.reply():
            if isinstance(event, Reasoning):
                thought += event.text
            elif isinstance(event, Answer):
                spoken += event.text
            elif isinstance(event, Done):
                break
            if time.monotonic() - drawn > REDRAW:
                drawn = time.monotonic()
                yield "", rows(conversation.messages, words) + answer_rows(thought, spoken, words, False), True
    except RunnerError as error:
        warn(words["busy"] if isinstance(error, EngineBusyError) else str(error))
        said = conversation.undo()
        yield said, rows(conversation.messages, words), False
        return
    yield "", rows(conversation.messages, words), False


def rows(messages: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> list[Row]:
    """A conversation's messages as the chatbot shows them."""
    shown: list[Row] = []
    for message in messages:
        if message["role"] == "assistant":
            shown += answer_rows(message.get("reasoning_content", ""), message["content"], words, True)
        else:
            shown.append({"role": message["role"], "content": message["content"]})
    return shown


def answer_rows(thought: str, spoken: str, words: Mapping[str, str], finished: bool) -> list[Row]:
    """An answer: the reasoning as a row of its own, open while it grows and folded once the answer begins."""
    shown: list[Row] = []
    if thought:
        over = finished or bool(spoken)
        title = words["thought"] if over else words["thinks"]
        metadata = {"title": title, "status": "done" if over else "pending"}
        shown.append({"role": "assistant", "content": thought, "metadata": metadata})
    if spoken or not thought:
        shown.append({"role": "assistant", "content": spoken})
    return shown


def _plain(text: str) -> str:
    """A text from a file, harmless in Markdown."""
    return "".join(f"\\{char}" if char in r"\`*_{}[]()#+-.!|<>&~" else char for char in " ".join(text.split()))
