"""The page's server: on this machine alone, with a policy that lets nothing on the page reach another one."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.ui.chat.words import COOKIE, TEXTS

HOST = "127.0.0.1"
DEFAULT_PORT = 7860
PORTS_TRIED = 20
HERE = Path(__file__).parent

# nothing on the page, a picture in an answer included, may reach another machine
CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-ancestors 'none';"
    " form-action 'self'; base-uri 'self'"
)

# before Gradio looks which language the browser wants, it is told which one was chosen on the page
LANGUAGE = f"""<script>
(() => {{
  const chosen = document.cookie.match(/(?:^|; )({COOKIE})=(zh|en)/);
  if (!chosen) return;
  const wanted = chosen[2] === "zh" ? "zh-CN" : "en";
  Object.defineProperty(navigator, "language", {{ get: () => wanted }});
  Object.defineProperty(navigator, "languages", {{ get: () => [wanted] }});
}})();
</script>"""


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
        css_paths=[HERE / "chat.css"],
        js=(HERE / "chat.js").read_text(encoding="utf-8"),
        app_kwargs={"middleware": [Middleware(_Policy)]},
    )


class _Policy:
    """Adds the content policy to every answer, and the chosen language to the page itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: list[Any] = []  # the page's headers, until its length is known

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", CONTENT_POLICY.encode("ascii"))
                message["headers"] = [*message.get("headers", ()), header]
                if scope["path"] == "/" and scope["method"] == "GET":
                    held.append(message)
                    return
            elif held:
                message = _with_language(held[0], message)
                await send(held.pop())
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _with_language(start: Any, message: Any) -> Any:
    """The page's first piece with the script at its beginning: Gradio's own `head` comes too late for its labels."""
    body = message.get("body", b"")
    longer = body.replace(b"<head>", b"<head>" + LANGUAGE.encode(), 1)
    start["headers"] = [
        (name, str(int(value) + len(longer) - len(body)).encode() if name.lower() == b"content-length" else value)
        for name, value in start["headers"]
    ]
    return {**message, "body": longer}
