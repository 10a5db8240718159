"""`nemotron ui`: the page, put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemotron_gguf.runner import RunnerError, Settings
from nemotron_gguf.ui import console
from nemotron_gguf.ui.chat.filing import Filing
from nemotron_gguf.ui.chat.generation import Generations
from nemotron_gguf.ui.chat.handlers import Handlers
from nemotron_gguf.ui.chat.layout import Parts, lay_out
from nemotron_gguf.ui.chat.serving import DEFAULT_PORT, HOST, free_port, import_gradio, launch
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import Wishes
from nemotron_gguf.ui.chat.visit import Visit
from nemotron_gguf.ui.chat.wishing import Wishing
from nemotron_gguf.ui.chat.words import TEXTS, words_for

if TYPE_CHECKING:
    from nemotron_gguf.runner import ChatModel

QUIET: Mapping[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}


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
    asked for is taken, none is free, or the kept conversations cannot be used.
    """
    from nemotron_gguf.ui.loading import open_with_bar

    chosen = free_port(port or DEFAULT_PORT)
    if port not in (None, chosen):
        raise RunnerError(f"port {port} on {HOST} is taken; end what uses it, choose another, or leave --port out")
    store = Store()
    with open_with_bar(path, settings) as model:
        page = Page(model, store, Wishes(system=system or "", thinking=thinking))
        console.say(f"The page is at http://{HOST}:{chosen} (Ctrl-C ends it)")
        try:
            launch(page.blocks, chosen, wait=True)
        finally:
            page.generations.stop_all()


class Actions(Handlers, Wishing, Filing):
    """All that the page does."""

    def __init__(self, first: Wishes, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first = first
        # how Gradio knows what is wanted; at import time it is not there to be named
        type(self).arrive.__annotations__["request"] = self.gr.Request
        for method, event in ((Handlers.edit, self.gr.EditData), (Handlers.mark, self.gr.EventData)):
            method.__annotations__["event"] = event
        Handlers.pick.__annotations__["event"] = self.gr.EventData

    def arrive(self, wanted: str, request: Any) -> dict[Any, Any]:
        """Somebody opens or reloads the page; `wanted` is the conversation that its address names."""
        words = words_for(request.headers.get("accept-language", ""), request.headers.get("cookie", ""))
        visit = Visit(words, self.first, wanted or "")
        return {self.parts.visit: visit} | self.show(visit)


class Page:
    """The chat page of a model: `blocks`, a `gradio.Blocks` ready to be launched, and the answers under way."""

    def __init__(self, model: ChatModel, store: Store, wishes: Wishes | None = None) -> None:
        gr = import_gradio()
        self.generations = Generations(model, store)
        with gr.Blocks(title=model.name, analytics_enabled=False, fill_height=True) as self.blocks:
            parts = lay_out(gr, gr.I18n(**TEXTS), model.template.has_switch)
            self.actions = Actions(wishes or Wishes(), gr, model, store, self.generations, parts)
            _connect(gr, self.blocks, self.actions, parts)


def _connect(gr: Any, blocks: Any, actions: Actions, parts: Parts) -> None:
    """Say what happens when something is pressed."""
    everything = parts.changing

    def then_follow(event: Any) -> None:
        event.then(None, parts.wanted, None, js="(chat) => window.nemotron.remember(chat)", **QUIET).then(
            actions.follow, parts.visit, everything, **QUIET
        )

    here = "() => [new URLSearchParams(location.search).get('chat') ?? '']"
    then_follow(blocks.load(actions.arrive, parts.wanted, everything, js=here, **QUIET))
    asked = gr.on(
        [parts.message.submit, parts.send.click], actions.ask, [parts.message, parts.visit], everything, **QUIET
    )
    then_follow(asked)
    for trigger, action in (
        (parts.history.edit, actions.edit),
        (parts.history.retry, actions.again),
        (parts.again.click, actions.again),
        (parts.history.undo, actions.undo),
        (parts.go_on.click, actions.go_on),
        (parts.marks.click, actions.mark),
        (parts.list.click, actions.pick),
        (parts.new.click, actions.new),
    ):
        then_follow(trigger(action, parts.visit, everything, **QUIET))
    parts.search.change(actions.search, [parts.search, parts.visit], parts.list, trigger_mode="always_last", **QUIET)
    parts.stop.click(actions.stop, parts.visit, None, **QUIET)
    parts.answer_now.click(actions.answer_now, parts.visit, None, **QUIET)
    parts.language.click(None, None, None, js="() => window.nemotron.switchLanguage()", **QUIET)
    _connect_settings(gr, actions, parts, everything)
    then_follow(parts.importing.upload(actions.take_in, [parts.importing, parts.visit], everything, **QUIET))
    for button, export in (
        (parts.export_json, actions.export_json),
        (parts.export_markdown, actions.export_markdown),
        (parts.export_all, actions.export_all),
    ):
        made = button.click(export, parts.visit, parts.file, **QUIET)
        made.then(None, parts.file, None, js="(file) => window.nemotron.save(file)", **QUIET)


def _connect_settings(gr: Any, actions: Actions, parts: Parts, everything: list[Any]) -> None:
    values = [parts.visit, *parts.wishes]
    kept = {**QUIET, "trigger_mode": "always_last"}
    for control in (parts.thinking, parts.budget, parts.max_tokens):
        control.input(actions.wish, values, None, **kept)
    for control in (parts.temperature, parts.top_p, parts.top_k, parts.min_p):
        control.input(actions.draw, values, parts.sampling, **kept)
    written = [parts.system.input, parts.system.blur]  # what is pasted is no input to Gradio
    gr.on(written, actions.write_system, values, [parts.system_preset, parts.forget], **kept)
    parts.system_preset.input(actions.choose_system, [parts.system_preset, parts.visit], everything, **QUIET)
    parts.sampling.input(actions.choose_sampling, [parts.sampling, parts.visit], everything, **QUIET)
    parts.keep.click(actions.keep_prompt, [parts.prompt_name, parts.system, parts.visit], everything, **QUIET)
    parts.forget.click(actions.forget_prompt, [parts.system_preset, parts.visit], everything, **QUIET)
