"""The page of a scripted model in a real browser, and what the browser asked for elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nemotron_gguf.runner import ChatModel
from nemotron_gguf.tests.ui.conftest import scripted
from nemotron_gguf.ui.chat import Page, Store
from nemotron_gguf.ui.chat.serving import HOST, free_port, launch
from nemotron_gguf.ui.chat.tree import Chat

SECONDS = 60_000  # milliseconds that the browser waits for something to appear: machines are slow at times
LONG = "word " * 40_000  # never said whole


def script(prompt: str) -> str:
    """Thinks where the prompt asks for it; what it says depends on the question."""
    question = prompt.rpartition("[user]")[2].partition("[assistant]")[0]
    if "show" in question:
        said = question.partition("show ")[2]
    else:
        said = LONG if "long" in question else f"You said: {question}. 你好 ![x](http://192.0.2.1/leak.png)"
    return f"I weigh *{question}*.</think>\n\n{said}" if prompt.endswith("<think>\n") else said


class Tab:
    """A tab of the browser, and what a person does there."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def ask(self, text: str) -> None:
        self.page.fill("#message textarea", text)
        self.page.press("#message textarea", "Enter")

    def sees(self, text: str, where: str = "#history") -> None:
        self.page.wait_for_selector(f"{where} >> text={text}")

    def loses(self, selector: str) -> None:
        self.page.wait_for_selector(selector, state="hidden")

    def open_settings(self) -> None:
        if not self.page.locator("#settings.open, #settings .sidebar.open").count():
            self.page.click("#settings .toggle-button")

    def finished(self) -> None:
        """Wait until no answer is under way here."""
        self.loses("#stop")
        self.loses("#live .message-row")

    def history(self) -> str:
        return str(self.page.inner_text("#history"))

    def titles(self) -> list[str]:
        return [str(text).lstrip("● ") for text in self.page.locator("#list .ng-open").all_inner_texts()]


class Served:
    """A page that is served, and the tabs that are open on it."""

    def __init__(self, model: ChatModel, browser: Any, store: Store) -> None:
        self.model, self.browser, self.store = model, browser, store
        self.page = Page(model, store)
        self.port = free_port(18100)
        launch(self.page.blocks, self.port, wait=False)
        self.home: Any = None
        self.contexts: list[Any] = []
        self.outside: list[str] = []

    @property
    def engine(self) -> Any:
        return self.model.engine

    def tab(self, address: str = "", **options: Any) -> Tab:
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        # a request that the page's policy blocks fails before it is sent
        page.on("response", lambda answer: self.outside.append(answer.url) if self.is_outside(answer.url) else None)
        page.goto(f"http://{HOST}:{self.port}/{address}")
        arrived(page)
        return Tab(page)

    def is_outside(self, url: str) -> bool:
        return not url.startswith((f"http://{HOST}:{self.port}", "data:", "blob:"))

    def forget(self) -> None:
        """No conversations, and nothing asked."""
        for entry in self.store.entries():
            self.store.delete(entry.id)
        self.engine.prompts.clear()
        self.engine.tasks.clear()

    def chat(self) -> Chat:
        """The latest conversation."""
        found = self.store.chat(self.store.entries()[0].id)
        assert found is not None
        return found

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.page.generations.stop_all()
        self.page.blocks.close()


def arrived(page: Any) -> None:
    """Wait until the page has heard from the server."""
    page.wait_for_selector("#message textarea")
    page.wait_for_selector("#list :is(.ng-none, .ng-list)")


@pytest.fixture(scope="module")
def served(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page for all tests of a module: a browser takes seconds to load one."""
    one = Served(scripted(script), browser, Store(tmp_path_factory.mktemp("data") / "chats.db"))
    one.home = one.tab()
    yield one
    one.close()


@pytest.fixture
def tab(served: Served) -> Iterator[Tab]:
    """The first tab, with a new conversation; nothing is left of the tests before it."""
    served.engine.delay = 0.0
    served.forget()
    tab = served.home
    tab.press("body", "Control+k")
    tab.wait_for_selector("#list .ng-none")
    tab.loses("#history .message-row")
    yield tab
    served.page.generations.stop_all()
    tab.finished()


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.1)):
        if true():
            return
        threading.Event().wait(0.1)
    raise AssertionError("it did not happen")
