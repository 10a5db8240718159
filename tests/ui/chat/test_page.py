"""The chat page in a real browser: asked, read, stopped, branched, kept, in two tabs and two languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.tests.ui.chat.conftest import SECONDS, Served, Tab, arrived, wait_until
from nemotron_gguf.ui.chat import serving


def test_reasoning_is_folded_apart_and_the_switch_works(served: Served, tab: Tab) -> None:
    tab.ask("hello there")
    tab.sees("You said: hello there")
    tab.finished()
    tab.sees("Reasoning")
    assert not tab.is_visible("text=I weigh"), "the reasoning is folded away"
    tab.click("#history >> text=Reasoning")
    tab.wait_for_selector("text=I weigh", state="visible")

    tab.uncheck("#thinking input")
    wait_until(lambda: not served.chat().entry.wishes.thinking)
    tab.ask("second one")
    tab.sees("You said: second one")
    tab.finished()
    wait_until(lambda: tab.history().count("Reasoning") == 1)
    assert served.engine.prompts[1].endswith("[user]second one[assistant]<think></think>")
    assert "You said: hello there" in served.engine.prompts[1], "the conversation goes on"
    tab.check("#thinking input")
    wait_until(lambda: served.chat().entry.wishes.thinking)
    assert served.outside == [], "nothing is fetched from elsewhere, a picture in an answer included"


def test_an_answer_outlives_reloads_and_is_stopped_and_continued(served: Served, tab: Tab) -> None:
    served.engine.delay = 0.02
    tab.ask("a long one")
    tab.sees("word word", "#live")
    for _ in range(9):
        tab.reload(wait_until="domcontentloaded")
    tab.reload()
    arrived(tab)
    tab.sees("word word", "#live")
    assert len(served.page.generations.live()) == 1
    assert len(served.engine.prompts) == 1, "nothing was asked again"
    tab.press("#message textarea", "Escape")
    tab.finished()
    tab.sees("(stopped)")
    assert served.page.generations.live() == []
    wait_until(lambda: not served.engine.busy.locked())  # nobody is answered any more
    wait_until(lambda: served.page.actions.n_following == 0)
    half = tab.history().count("word")
    assert 1 < half < 40_000

    tab.click("#go-on")
    wait_until(lambda: len(served.engine.prompts) == 2)
    assert served.engine.prompts[1].endswith("wor") or "word word" in served.engine.prompts[1].rpartition("</think>")[2]
    tab.sees("word word", "#live")
    tab.click("#stop")
    tab.finished()
    assert len(served.chat().path()) == 2


def test_thinking_can_be_ended(served: Served, tab: Tab) -> None:
    served.engine.delay = 0.1
    tab.ask("now")
    tab.click("#answer-now")
    tab.sees("You said", "#live")
    tab.click("#stop")
    tab.finished()


def test_versions_branches_undo_and_delete(served: Served, tab: Tab) -> None:
    tab.ask("first")
    tab.sees("You said: first")
    tab.finished()
    tab.ask("second")
    tab.sees("You said: second")
    tab.finished()
    tab.click("#history [aria-label=Retry]")
    tab.sees("2 / 2")
    tab.finished()
    assert served.engine.prompts[2].endswith("[user]second[assistant]<think>\n")

    tab.locator("#history [aria-label=Edit]").first.click()
    box = tab.locator("#history textarea")
    box.fill("other <b>")
    tab.click("#history [aria-label=Submit]")
    tab.sees("You said: other <b>")
    tab.finished()
    assert served.engine.prompts[3].endswith("[user]other <b>[assistant]<think>\n")
    tab.loses("#history >> text=You said: second")
    wait_until(lambda: "second" not in tab.history())
    tab.click("#history .ng-mark [aria-label='Earlier version']:not([disabled])")
    tab.sees("You said: second")
    wait_until(lambda: [tab.history().count(shown) for shown in ("1 / 2", "2 / 2")] == [1, 1])

    tab.press("#message textarea", "ArrowUp")
    wait_until(lambda: tab.locator("#history textarea").input_value() == "second")  # the last question is edited
    tab.press("#history textarea", "Escape")
    tab.click("#history [aria-label=Undo]")
    tab.wait_for_function("document.querySelector('#message textarea').value === 'second'")
    tab.loses("#history >> text=You said: second")
    tab.sees("You said: first")
    delete = tab.locator("#history .ng-mark [aria-label=Delete]").first
    delete.click()
    assert delete.inner_text() == "Delete it?"
    delete.click()
    tab.sees("You said: other <b>")
    wait_until(lambda: "first" not in tab.history())


def test_conversations_are_listed_found_named_and_deleted(tab: Tab) -> None:
    for question in ("about rivers", "about mountains"):
        tab.press("body", "Control+k")
        tab.loses("#history >> text=You said")
        tab.ask(question)
        tab.sees(f"You said: {question}")
        tab.finished()
    wait_until(lambda: tab.titles() == ["about mountains", "about rivers"])
    tab.click("#list [aria-label='Pin: about rivers']")
    tab.wait_for_selector("#list li:first-child >> text=about rivers")
    tab.fill("#search input, #search textarea", "MOUNT")
    tab.loses("#list >> text=about rivers")
    wait_until(lambda: tab.titles() == ["about mountains"])
    tab.fill("#search input, #search textarea", "")
    tab.click("#list >> text=about rivers")
    tab.sees("You said: about rivers")
    tab.click("#list [aria-label='Rename: about rivers']")
    tab.fill("#list input", "Rhine & <i>Danube</i>")
    tab.press("#list input", "Enter")
    tab.wait_for_selector("#list >> text=Rhine & <i>Danube</i>")
    tab.reload()
    arrived(tab)
    tab.sees("You said: about rivers")
    button = tab.locator("#list [aria-label^='Delete: Rhine']")
    button.click()
    button.click()
    tab.loses("#list >> text=Rhine")
    tab.loses("#history >> text=You said")
    wait_until(lambda: "chat=" not in tab.evaluate("location.search"))  # a script of the page changes it


def test_settings_are_a_conversations_own(served: Served, tab: Tab) -> None:
    tab.open_settings()
    tab.click("#system-preset input")
    tab.click("[role=option] >> text=Brief")
    tab.wait_for_function("document.querySelector('#system textarea').value.startsWith('Answer briefly')")
    tab.click("#sampling input")
    tab.click("[role=option] >> text=NVIDIA")
    tab.wait_for_function("document.querySelector('#temperature input').value === '0.6'")
    tab.ask("hello")
    tab.sees("You said: hello")
    tab.finished()
    assert served.engine.prompts[0].startswith("[system]Answer briefly")
    assert served.engine.tasks[0].sampling.temperature == 0.6
    assert served.engine.tasks[0].sampling.top_p == 0.95
    tab.fill("#system textarea", "Talk like a pirate.")
    tab.press("#system textarea", "Tab")
    tab.fill("#prompt-name input, #prompt-name textarea", "Pirate")
    wait_until(lambda: served.chat().entry.wishes.system == "Talk like a pirate.")
    tab.click("#keep")
    wait_until(lambda: served.store.prompts() == {"Pirate": "Talk like a pirate."})
    tab.reload()
    arrived(tab)
    tab.sees("You said: hello")
    tab.wait_for_function("document.querySelector('#system textarea').value === 'Talk like a pirate.'")
    tab.wait_for_function("document.querySelector('#system-preset input').value === '★ Pirate'")


def test_files_leave_and_come_back(served: Served, tab: Tab, tmp_path: Path) -> None:
    tab.ask("hello")
    tab.sees("You said: hello")
    tab.finished()
    tab.open_settings()
    tab.click("#files button")
    with tab.expect_download() as found:
        tab.click("#export_json")
    found.value.save_as(tmp_path / "saved.json")
    with tab.expect_download() as found:
        tab.click("#export_markdown")
    assert found.value.suggested_filename == "hello.md"
    with tab.expect_file_chooser() as chooser:
        tab.click("#import")
    chooser.value.set_files(tmp_path / "saved.json")
    wait_until(lambda: len(served.store.entries()) == 2)
    tab.wait_for_selector("text=1 conversations were added.")
    with tab.expect_file_chooser() as chooser:
        tab.click("#import")
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    chooser.value.set_files(tmp_path / "none.json")
    tab.wait_for_selector("text=holds no conversations")


def test_the_language_can_be_switched(tab: Tab) -> None:
    tab.wait_for_selector("text=Think first")
    tab.click("#language")
    tab.wait_for_selector("text=先思考")
    tab.wait_for_selector("text=还没有对话。")
    tab.click("#language")
    tab.wait_for_selector("text=Think first")
    arrived(tab)


def test_it_fits_a_telephone(tab: Tab) -> None:
    tab.set_viewport_size({"width": 360, "height": 640})
    tab.click("#side .toggle-button")
    tab.ask("x" * 200)
    tab.sees("You said")
    tab.finished()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    for part in ("#send", "#message", "#thinking", "#budget", "#status"):
        box = tab.locator(part).bounding_box()
        assert box["x"] >= 0, part
        assert box["x"] + box["width"] <= 360, part
        assert box["y"] + box["height"] <= 640, part
    tab.click("#side .toggle-button")
    tab.set_viewport_size({"width": 1280, "height": 720})


def test_the_real_model_answers_on_the_page(browser: Any, demo_q8: Path, tmp_path: Path) -> None:
    port = serving.free_port(18200)
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "ui", str(demo_q8), "--port", str(port)]
    options = ["--threads", "1", "--temperature", "0"]
    own = {**os.environ, "NEMOTRON_CHATS": str(tmp_path / "chats.db")}
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, encoding="utf-8", env=own) as server:
        try:
            assert server.stdout is not None
            assert str(port) in server.stdout.readline()
            tab = browser.new_page()
            tab.set_default_timeout(SECONDS)
            wait_until(lambda: answers(port))
            tab.goto(f"http://{serving.HOST}:{port}")
            arrived(tab)
            tab.fill("#message textarea", "What does the convert room do?")
            tab.press("#message textarea", "Enter")
            tab.wait_for_selector("#history >> text=Reasoning")
            answer = tab.inner_text("#history").rpartition("Reasoning")[2]
            assert len(re.findall(r"\w+", answer)) >= 3, answer
            assert "tokens/s" in tab.inner_text("#status")
            assert "CPU" in tab.inner_text("#status"), "where the model lies"
            tab.close()
        finally:
            server.terminate()


def answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((serving.HOST, port)) == 0


def test_a_taken_port_gives_the_next_one() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((serving.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < serving.free_port(port) < port + serving.PORTS_TRIED


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PORTS_TRIED", 0)
    with pytest.raises(RunnerError, match="--port"):
        serving.free_port(18300)


WATCH = """
import os, socket, sys
reached = []
def watch(name):
    real = getattr(socket.socket, name)
    def connect(self, address):
        reached.append(address)
        return real(self, address)
    setattr(socket.socket, name, connect)
watch("connect"); watch("connect_ex")
looked_up = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    reached.append((host, 0))
    return looked_up(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
sys.path.insert(0, sys.argv[1])
import time, conftest
from pathlib import Path
from nemotron_gguf.ui.chat import Page, Store, serving
page = Page(conftest.scripted(lambda prompt: "x"), Store(Path(sys.argv[2])))
serving.launch(page.blocks, serving.free_port(18400), wait=False)
time.sleep(3)
local = ("127.0.0.1", "localhost", "0.0.0.0", "::1", None)
print("OUTSIDE", [a for a in reached if isinstance(a, tuple) and a[0] not in local], len(reached))
page.blocks.close()
"""


def test_the_server_calls_nobody(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(Path(__file__).parent.parent), str(tmp_path / "chats.db")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"OUTSIDE (\[.*\]) (\d+)", done.stdout)
    assert found, done.stderr
    assert found[1] == "[]"
    assert int(found[2]) > 0, "the watch itself works: Gradio looks whether its own page is up"


HOSTILE = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror=window.hacked=2>",
    "<svg onload=window.hacked=3></svg>",
    "<svg><script>window.hacked=4</script></svg>",
    "<iframe srcdoc='<script>parent.hacked=5</script>'></iframe>",
    "<a href='javascript:window.hacked=6'>here</a>",
    "[here](javascript:window.hacked=7)",
    "![x](x'onerror='window.hacked=8)",
    "<details open ontoggle=window.hacked=9>x</details>",
    "<body onload=window.hacked=10>",
    "<style>@import 'x'; body { display: none }</style>",
    "<object data='data:text/html,<script>window.hacked=11</script>'></object>",
    "<form action='javascript:window.hacked=12'><button>go</button></form>",
    "<math><mtext><img src=x onerror=window.hacked=13></mtext></math>",
    "<video><source onerror=window.hacked=14></video>",
    "$$\\href{javascript:window.hacked=15}{x}$$",
    "{{window.hacked = 16}} ${window.hacked = 17}",
    "<!--><img src=x onerror=window.hacked=18>-->",
    "<input autofocus onfocus=window.hacked=19>",
    "```html\n<script>window.hacked = 20</script>\n```",
    '"><img src=x onerror=window.hacked=21>',
)


def test_what_is_hostile_is_shown_and_not_run(served: Served, tab: Tab) -> None:
    """From the user, the model, a title and an export, all at once."""
    text = "\n\n".join(HOSTILE)
    tab.ask(f"show {text}")
    tab.sees("window.hacked=21")
    tab.finished()
    for payload in HOSTILE:
        served.store.begin(payload)
    tab.press("#message textarea", "Control+k")
    tab.wait_for_selector("#list >> text=<svg onload=window.hacked=3></svg>")
    wait_until(lambda: sorted(tab.titles()[:-1]) == sorted(" ".join(payload.split()) for payload in HOSTILE))
    tab.click("#list li:last-child .ng-open")
    tab.sees("window.hacked=21")
    said = tab.evaluate("document.querySelector('#history').textContent")
    assert said.count("<script>window.hacked = 1</script>") == 2, "both are shown"
    assert said.count("<img src=x onerror=window.hacked=2>") == 2
    live = "script, iframe, object, form, style, svg[onload], [onerror], [ontoggle], [onfocus], [href^='javascript']"
    assert tab.locator("#history .message").locator(live).count() == 0
    assert tab.evaluate("window.hacked") is None
    assert tab.is_visible("#send")
