"""The page's components, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_gguf.ui.chat.markdown import DELIMITERS
from nemotron_gguf.ui.chat.presets import OWN
from nemotron_gguf.ui.chat.tree import Wishes
from nemotron_gguf.ui.chat.visit import Visit
from nemotron_gguf.ui.chat.words import ENGLISH

HERE = Path(__file__).parent
LONGEST_MESSAGE = 200_000  # characters
LONGEST_TITLE = 200
LARGEST_BUDGET = 16384  # tokens of the slider


@dataclass
class Parts:
    """The page's components, by what they are for."""

    visit: Any
    wanted: Any
    file: Any
    # the side list
    new: Any
    search: Any
    list: Any
    language: Any
    # the conversation
    history: Any
    marks: Any
    live: Any
    status: Any
    # what one writes with
    message: Any
    send: Any
    stop: Any
    answer_now: Any
    go_on: Any
    again: Any
    thinking: Any
    budget: Any
    # its settings
    system_preset: Any
    system: Any
    prompt_name: Any
    keep: Any
    forget: Any
    sampling: Any
    temperature: Any
    top_p: Any
    top_k: Any
    min_p: Any
    max_tokens: Any
    export_json: Any
    export_markdown: Any
    export_all: Any
    importing: Any

    @property
    def changing(self) -> list[Any]:
        """What may change when a conversation is shown."""
        shown = [self.visit, self.wanted, self.list, self.history, self.marks, self.live, self.status, self.message]
        doing = [self.stop, self.answer_now, self.go_on, self.again]
        chosen = [self.system_preset, self.prompt_name, self.forget, self.sampling]
        return [*shown, *doing, *chosen, *self.wishes]

    @property
    def wishes(self) -> list[Any]:
        """The controls of a conversation's settings, in the order of `wishes_from`."""
        drawn = [self.temperature, self.top_p, self.top_k, self.min_p, self.max_tokens]
        return [self.system, self.thinking, self.budget, *drawn]


def lay_out(gr: Any, text: Any, has_switch: bool) -> Parts:
    """Every component in its place; `text` names what the browser translates."""
    found: dict[str, Any] = {
        "visit": gr.State(Visit(ENGLISH, Wishes())),
        "wanted": gr.Textbox(visible=False),
        "file": gr.Textbox(visible=False),
    }
    with gr.Sidebar(elem_id="side", width=300):
        _side(gr, text, found)
    with gr.Sidebar(elem_id="settings", position="right", open=False, width=340):
        _settings(gr, text, found)
    with gr.Column(elem_id="talk"):
        _talk(gr, text, found)
    with gr.Column(elem_id="composer"):
        _composer(gr, text, found, has_switch)
    return Parts(**found)


def _side(gr: Any, text: Any, found: dict[str, Any]) -> None:
    found["new"] = gr.Button(text("new"), variant="primary", elem_id="new")
    found["search"] = gr.Textbox(
        label=text("search"), placeholder=text("search"), show_label=False, elem_id="search", max_length=LONGEST_TITLE
    )
    found["list"] = gr.HTML(elem_id="list", js_on_load=(HERE / "list.js").read_text(encoding="utf-8"))
    found["language"] = gr.Button(text("language"), size="sm", elem_id="language")


def _settings(gr: Any, text: Any, found: dict[str, Any]) -> None:
    gr.Markdown(text("settings"), elem_id="settings-title")
    found["system_preset"] = gr.Dropdown([("", OWN)], value=OWN, label=text("system_preset"), elem_id="system-preset")
    found["system"] = gr.Textbox(
        label=text("system"), lines=3, max_lines=12, elem_id="system", max_length=LONGEST_MESSAGE
    )
    with gr.Row():
        found["prompt_name"] = gr.Textbox(
            label=text("prompt_name"), elem_id="prompt-name", max_length=LONGEST_TITLE, min_width=100
        )
        found["keep"] = gr.Button(text("keep"), size="sm", elem_id="keep", min_width=100)
        found["forget"] = gr.Button(text("forget"), size="sm", elem_id="forget", min_width=100, visible=False)
    found["sampling"] = gr.Dropdown([("", OWN)], value=OWN, label=text("sampling"), elem_id="sampling")
    for name, low, high, step in (("temperature", 0, 2, 0.05), ("top_p", 0, 1, 0.01), ("min_p", 0, 1, 0.01)):
        found[name] = gr.Slider(low, high, step=step, label=text(name), elem_id=name, interactive=True)
    for name in ("top_k", "max_tokens"):
        found[name] = gr.Number(label=text(name), precision=0, minimum=0, elem_id=name, interactive=True)
    with gr.Accordion(text("export"), open=False, elem_id="files"):
        for name in ("export_json", "export_markdown", "export_all"):
            found[name] = gr.Button(text(name), size="sm", elem_id=name)
        found["importing"] = gr.UploadButton(text("import"), size="sm", file_types=[".json"], elem_id="import")


def _talk(gr: Any, text: Any, found: dict[str, Any]) -> None:
    shown = {
        "latex_delimiters": DELIMITERS,
        "show_label": False,
        "height": None,
        "autoscroll": False,
        "feedback_options": None,
        "allow_tags": True,
    }
    found["history"] = gr.Chatbot(
        label=text("conversation"),
        placeholder=text("welcome"),
        elem_id="history",
        buttons=["copy"],
        editable="user",
        **shown,
    )
    found["marks"] = gr.HTML(
        value=[], html_template="", elem_id="marks", js_on_load=(HERE / "marks.js").read_text(encoding="utf-8")
    )
    found["live"] = gr.Chatbot(label=text("answering"), elem_id="live", buttons=[], **shown)


def _composer(gr: Any, text: Any, found: dict[str, Any], has_switch: bool) -> None:
    with gr.Row(elem_id="doing"):
        found["stop"] = gr.Button(text("stop"), variant="stop", size="sm", elem_id="stop", visible=False, min_width=80)
        found["answer_now"] = gr.Button(
            text("answer_now"), size="sm", elem_id="answer-now", visible=False, min_width=80
        )
        found["go_on"] = gr.Button(text("go_on"), size="sm", elem_id="go-on", visible=False, min_width=80)
        found["again"] = gr.Button(text("again"), size="sm", elem_id="again", visible=False, min_width=80)
    with gr.Row(elem_id="writing"):
        found["message"] = gr.Textbox(
            label=text("message"),
            show_label=False,
            placeholder=text("hint"),
            elem_id="message",
            autofocus=True,
            max_lines=12,
            max_length=LONGEST_MESSAGE,
            scale=8,
        )
        found["send"] = gr.Button(text("send"), variant="primary", elem_id="send", min_width=72, scale=0)
    with gr.Row(elem_id="thought"):
        found["thinking"] = gr.Checkbox(
            True, label=text("thinking"), elem_id="thinking", interactive=has_switch, min_width=120, container=False
        )
        found["budget"] = gr.Slider(
            0, LARGEST_BUDGET, step=64, label=text("budget"), elem_id="budget", interactive=has_switch, min_width=180
        )
    found["status"] = gr.HTML(elem_id="status")
