"""`nemotron ui`: one plain chat page in the browser, over the same conversations as the terminal's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nemotron_gguf.runner import ChatModel, RunnerError, Settings
from nemotron_gguf.ui import console
from nemotron_gguf.ui.loading import open_with_bar
from nemotron_gguf.ui.page_texts import TEXTS, words_for
from nemotron_gguf.ui.page_turns import Row, Visit, take_turn

HOST = "127.0.0.1"
DEFAULT_PORT = 7860
PORTS_TRIED = 20
LONGEST_MESSAGE = 200_000  # characters

# nothing on the page, a picture in an answer included, may reach another machine
CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-ancestors 'none';"
    " form-action 'self'; base-uri 'self'"
)


def serve(
    path: str | Path,
    settings: Settings | None = None,
    *,
    port: int | None = None,
    system: str | None = None,
    thinking: bool = True,
) -> None:
    """Load a model and serve its page on this machine alone, until Ctrl-C.

    Without a port the first free one of a few is used. Raises NemotronError where the model cannot be loaded, the port
    asked for is taken, or none is free.
    """
    chosen = free_port(port or DEFAULT_PORT)
    if port not in (None, chosen):
        raise RunnerError(f"port {port} on {HOST} is taken; end what uses it, choose another, or leave --port out")
    with open_with_bar(path, settings) as model:
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
    text = gr.I18n(**TEXTS)
    with gr.Blocks(title=model.name, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"### {_plain(model.name)}\n{_plain(model.setup.describe())}", elem_id="about")
        chatbot = gr.Chatbot(
            label=text("conversation"),
            placeholder=text("welcome"),
            elem_id="chat",
            scale=1,
            min_height=240,
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
            can_switch = model.template.has_switch
            switch = gr.Checkbox(
                thinking, label=text("thinking"), elem_id="thinking", interactive=can_switch, min_width=120
            )
            send = gr.Button(text("send"), variant="primary", elem_id="send", min_width=80)
            stop = gr.Button(text("stop"), variant="stop", elem_id="stop", interactive=False, min_width=80)
            clear = gr.Button(text("clear"), elem_id="clear", min_width=80)
        visit = gr.State(None)  # this tab's, once it has begun
        _connect(gr, _Handlers(gr, model, system), _Parts(chatbot, message, switch, send, stop, clear, visit))
    return page


class _Parts(NamedTuple):
    """The page's components."""

    chatbot: Any
    message: Any
    switch: Any
    send: Any
    stop: Any
    clear: Any
    visit: Any


def _connect(gr: Any, handlers: _Handlers, parts: _Parts) -> None:
    """Say what happens when something is pressed."""
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [parts.message, parts.chatbot, parts.visit, parts.send, parts.stop]
    gr.on(
        [parts.message.submit, parts.send.click],
        handlers.ask,
        [parts.message, parts.visit, parts.switch],
        outputs,
        concurrency_limit=None,  # a second tab's question is answered beside the first one's
        **quiet,
    )
    parts.stop.click(handlers.stop, parts.visit, None, queue=False, **quiet)
    cleared = [parts.clear.click, parts.chatbot.clear]
    gr.on(cleared, handlers.clear, parts.visit, [parts.message, parts.chatbot], queue=False, **quiet)


class _Handlers:
    """What the buttons do; each tab's conversation is handed in and out."""

    def __init__(self, gr: Any, model: ChatModel, system: str | None) -> None:
        self.gr, self.model, self.system = gr, model, system
        # how Gradio knows that the request is wanted; at import time it is not there to be named
        type(self).ask.__annotations__["request"] = gr.Request

    def ask(self, said: str, visit: Visit | None, think: bool, request: Any) -> Iterator[tuple[Any, ...]]:
        visit = visit or Visit(lambda: self.model.conversation(system=self.system))
        visit.conversation.thinking = think
        words = words_for(request.headers.get("accept-language", ""))
        for state in take_turn(visit, said, words, self.gr.Warning):
            yield state.box, state.rows, visit, *self._buttons(state.answering)

    def stop(self, visit: Visit | None) -> None:
        if visit:
            visit.conversation.stop()

    def clear(self, visit: Visit | None) -> tuple[str, list[Row]]:
        """The buttons are left to the answer under way, which ends with the right ones."""
        if visit:
            visit.clear()
        return "", []

    def _buttons(self, answering: bool) -> tuple[Any, Any]:
        """Send and Stop."""
        return self.gr.Button(interactive=not answering), self.gr.Button(interactive=answering)


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


def _plain(text: str) -> str:
    """A text from a file, harmless in Markdown."""
    return "".join(f"\\{char}" if char in r"\`*_{}[]()#+-.!|<>&~" else char for char in " ".join(text.split()))
