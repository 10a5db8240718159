"""The conversation at the keyboard: what is typed, what is seen, what is left behind."""

from __future__ import annotations

import json
import stat
import sys
import termios
import time
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="no pseudo-terminals on this system")
from nemotron_gguf.tests.ui.keyboard import keyboard

ENGINE = [sys.executable, "-m", "nemotron_gguf.ui.cli", "chat"]


def test_a_conversation_with_folded_thoughts() -> None:
    with keyboard() as keys:
        keys.wait_for("/help lists commands")
        keys.wait_for_prompt()
        shown = keys.ask("hello 你好")
        assert "You said hello 你好." in shown
        assert "weighing" not in shown, "the reasoning is folded"
        assert "/thoughts shows it" in shown
        assert "10 tokens, 5 thought · " in shown
        assert " · first after 0.12 s · context 110/4096" in shown
        keys.type("/thoughts\r")
        keys.wait_for("weighing hello 你好")
        keys.wait_for_prompt()
        keys.type("/no_think\r")
        keys.wait_for("thinking is off")
        keys.wait_for_prompt()
        assert keys.ask("second").count("/thoughts shows it") == 1
        keys.type("/think\r")
        keys.wait_for("thinking is on")
        keys.wait_for_prompt()
        keys.type("/fold off\r")
        keys.wait_for("shown in full")
        keys.wait_for_prompt()
        assert "weighing third" in keys.ask("third")
        keys.type("/exit\r")
        assert keys.wait() == 0
        assert "closed" in keys.text()


def test_commands_change_what_is_said_and_known() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.type("/nonsense\r")
        keys.wait_for("/help lists them")
        keys.wait_for_prompt()
        keys.type("/sats\r")
        keys.wait_for("did you mean /stats?")
        keys.wait_for_prompt()
        keys.type("/system be brief\r")
        keys.wait_for("holds from the next answer on")
        keys.wait_for_prompt()
        keys.ask("one")
        keys.type("/thoughts\r")
        keys.wait_for("weighing one with be brief")
        keys.wait_for_prompt()
        keys.ask("two")
        keys.type("/retry\r")
        keys.wait_for("You said two", 2)
        keys.wait_for_prompt()
        keys.type("/undo\r")
        keys.wait_for("taken back: two")
        keys.wait_for_prompt()
        keys.type("/budget 12\r")
        keys.wait_for("thinks 12 tokens at most")
        keys.wait_for_prompt()
        keys.type("/budget x\r")
        keys.wait_for("not 'x'")
        keys.wait_for_prompt()
        keys.type("/effort low\r")
        keys.wait_for("effort is low")
        keys.wait_for_prompt()
        keys.type("/stats\r")
        keys.wait_for("3 answers")
        keys.wait_for_prompt()
        shown = keys.ask("/etc/hosts is a path")
        assert "You said /etc/hosts is a path" in shown


def test_a_message_is_edited_in_place() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.ask("first words")
        keys.ask("then others")
        keys.type("/edit 1\r")
        keys.wait_for("edit > first words")
        keys.read(0.3)
        keys.type("\x7f\x7f\x7f\x7f\x7fthings\r")
        keys.wait_for("You said first things.")
        keys.wait_for_prompt()
        keys.type("/edit 2\r")
        keys.wait_for("one of your 1 messages")  # those behind the edited one are gone


def test_several_lines_are_one_message() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        assert "You said one\ntwo\nthree." in keys.ask("one\\\rtwo\x1b\rthree")
        assert "You said four\n/five." in keys.ask('"""four\r/five"""')
        keys.paste("six\nseven\r\neight 中文")
        keys.read(0.3)
        assert "tokens/s" not in keys.text().rpartition("> six")[2], "a paste is not sent by itself"
        assert "You said six\nseven\neight 中文." in keys.ask("")


def test_ctrl_t_ends_the_thinking() -> None:
    with keyboard(environment={"SCRIPTED_DELAY": "0.02"}) as keys:
        keys.wait_for_prompt()
        keys.type("ponder\r")
        keys.wait_for("Ctrl-T answers now")
        keys.wait_for("Step 3")
        keys.type("\x14")
        assert "Step 150" not in keys.wait_for("You said ponder.")
        assert "thought " in keys.text()


def test_what_is_typed_meanwhile_is_in_the_next_line() -> None:
    with keyboard(environment={"SCRIPTED_DELAY": "0.02"}) as keys:
        keys.wait_for_prompt()
        keys.type("a long one\r")
        keys.wait_for("word word")
        keys.type("later 中x\x7f文\x1b[A")
        keys.read(0.3)
        assert "later" not in keys.text(), "keys do not garble the answer"
        keys.interrupt()
        keys.wait_for("stopped")
        keys.wait_for("> later 中文")
        assert "You said later 中文." in keys.ask("")


def test_enter_sends_what_is_typed_meanwhile() -> None:
    with keyboard(environment={"SCRIPTED_DELAY": "0.02"}) as keys:
        keys.wait_for_prompt()
        keys.type("ponder\r")
        keys.wait_for("Step 3")
        keys.type("\rone\r")
        keys.read(0.2)
        keys.type("\x1b[200~two\rlines\x1b[201~")
        keys.read(0.2)
        keys.type("\rthree\x14")
        shown = keys.wait_for("You said two\nlines.")
        assert "You said ponder" in shown.partition("> one")[0]
        assert "You said one." in shown.partition("> two")[0]
        keys.wait_for("> three")
        assert "You said three." in keys.ask("")


def test_an_answer_that_is_stopped_sends_nothing_after_it() -> None:
    with keyboard(environment={"SCRIPTED_DELAY": "0.02"}) as keys:
        keys.wait_for_prompt()
        keys.type("a long one\r")
        keys.wait_for("word word")
        keys.type("later\r")
        keys.read(0.3)
        keys.interrupt()
        keys.wait_for("stopped")
        keys.wait_for("> later")
        keys.read(0.5)
        assert "You said later" not in keys.text()


def test_ctrl_c_stops_the_answer_and_then_leaves() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.type("a long one\r")
        keys.wait_for("word word")
        keys.interrupt()
        keys.wait_for("stopped")
        keys.wait_for_prompt()
        assert "You said again" in keys.ask("again"), "the conversation goes on"
        keys.interrupt()
        keys.wait_for("Ctrl-C again leaves")
        keys.wait_for_prompt()
        keys.interrupt()
        assert keys.wait() == 0


def test_ctrl_c_empties_a_line_that_was_begun() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.type("begun")
        keys.wait_for("> begun")
        keys.interrupt()
        keys.read(0.5)
        assert "begun" not in keys.text()
        assert "again leaves" not in keys.text()


def test_the_end_of_input_leaves() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.type("\x04")
        assert keys.wait() == 0


@pytest.mark.parametrize("answering", [False, True])
def test_a_polite_kill_leaves_the_terminal_as_it_was(answering: bool) -> None:
    with keyboard(environment={"SCRIPTED_DELAY": "0.02"}) as keys:
        before = keys.mode
        keys.wait_for_prompt()
        if answering:
            keys.type("a long one\r")
            keys.wait_for("word word")
        assert not keys.mode[3] & termios.ECHO
        keys.process.terminate()
        assert keys.wait() == 128 + 15
        assert keys.mode == before
        assert "Traceback" not in keys.text()
        on, off = keys.raw.rfind(b"\x1b[?2004h"), keys.raw.rfind(b"\x1b[?2004l")
        assert on < off, "pastes are plain again"
        assert keys.raw.rfind(b"\x1b[?7l") < keys.raw.rfind(b"\x1b[?7h") or not answering


def test_an_answer_that_fails_gives_the_message_back() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.type("this is refused\r")
        keys.wait_for("ended by signal 9")
        keys.wait_for("> this is refused", 2)
        keys.interrupt()
        keys.read(0.3)
        assert "You said fine." in keys.ask("fine")
        keys.type("/edit 2\r")
        keys.wait_for("one of your 1 messages")


def test_a_long_prompt_shows_how_far_it_is_read() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        keys.type("a slow prompt\r")
        keys.wait_for("of 10000 tokens · 1.")
        keys.wait_for(" s left")
        shown = keys.wait_for("You said a slow prompt")
        assert "reading" not in shown, "the line is gone when the answer comes"
        keys.wait_for_prompt()
        keys.type("a slow prompt\r")
        keys.wait_for("reading the prompt")
        keys.interrupt()
        keys.wait_for("stopped")
        keys.wait_for("> a slow prompt", 3)  # nothing was said, so the message is in the line again


def test_files_go_with_the_next_message(tmp_path: Path) -> None:
    (tmp_path / "a note.txt").write_text("alpha\nbeta\n")
    (tmp_path / "ticks.md").write_text("```\ncode\n```\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with keyboard(size=(200, 30)) as keys:
        keys.wait_for_prompt()
        keys.type(f"/file {tmp_path}/im")
        keys.read(0.3)
        keys.type("\t")
        keys.wait_for("image.png")
        keys.type("\r")
        keys.wait_for("image.png is binary")
        keys.wait_for_prompt()
        keys.type(f"/file '{tmp_path}/a note.txt' {tmp_path}/ticks.md\r")
        keys.wait_for("a note.txt: 11 bytes, 2 lines")
        keys.wait_for("[2 attached] >")
        keys.type("look\r")
        shown = keys.wait_for("tokens/s")
        assert "You said look\n\na note.txt:\n" in shown
        assert "alpha\nbeta" in shown
        assert "```\ncode\n```" in shown, "the fence around it is longer than those within"
        keys.wait_for_prompt()
        assert "attached" not in keys.text().rpartition("tokens/s")[2]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    with keyboard(size=(200, 30)) as keys:
        keys.wait_for_prompt()
        keys.type(f"/save {path}\r")
        keys.wait_for("nothing to save yet")
        keys.wait_for_prompt()
        keys.ask("remember 中文")
        keys.type(f"/save {path}\r")
        keys.wait_for("2 messages saved")
        keys.wait_for_prompt()
        before = path.read_bytes()
        keys.type(f"/save {path}\r")
        keys.wait_for("is there already; /save! ")
        keys.wait_for_prompt()
        assert path.read_bytes() == before
        keys.ask("more")
        keys.type(f"/save! {path}\r")
        keys.wait_for("4 messages saved")
        keys.wait_for_prompt()
        keys.type(f"/save {tmp_path}/talk.md\r")
        keys.wait_for("4 messages saved", 2)
    kept = json.loads(path.read_text())
    assert [message["content"] for message in kept["messages"]][:2] == ["remember 中文", "You said remember 中文."]
    assert kept["messages"][1]["reasoning_content"] == "weighing remember 中文"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "## You\n\nremember 中文\n" in (tmp_path / "talk.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.json", "talk.md"], "no unfinished file is left"
    with keyboard(size=(200, 30)) as keys:
        keys.wait_for_prompt()
        keys.type(f"/load {tmp_path}/talk.md\r")
        keys.wait_for("it is no JSON")
        keys.wait_for_prompt()
        keys.type(f"/load {path}\r")
        keys.wait_for("4 messages loaded")
        keys.wait_for("You said more.")
        keys.wait_for_prompt()
        keys.type("/edit 1\r")
        keys.wait_for("edit > remember 中文")


def test_history_is_private_and_can_be_off(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    named = {"NEMOTRON_HISTORY": str(path)}
    with keyboard(environment=named) as keys:
        keys.wait_for_prompt()
        keys.ask("said earlier 中文")
        keys.type("\x04")
        assert keys.wait() == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with keyboard(environment=named) as keys:
        keys.wait_for_prompt()
        keys.type("\x1b[A")
        keys.wait_for("> said earlier 中文")
    kept = path.read_bytes()
    state = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "xdg"), "NEMOTRON_HISTORY": "off"}
    with keyboard(environment=state) as keys:
        keys.wait_for_prompt()
        keys.ask("a secret")
        keys.type("\x04")
        assert keys.wait() == 0
    assert path.read_bytes() == kept
    assert not (tmp_path / "xdg").exists()
    with keyboard(environment=state | {"NEMOTRON_HISTORY": ""}) as keys:
        keys.wait_for_prompt()
        keys.ask("kept")
    assert "kept" in (tmp_path / "xdg" / "nemotron-gguf" / "chat-history").read_text()


def test_a_dumb_terminal_has_plain_lines() -> None:
    with keyboard(environment={"TERM": "dumb"}) as keys:
        keys.wait_for_prompt()
        keys.type("one\\\n")
        keys.wait_for(". ")
        keys.type("two\n")
        keys.wait_for("You said one\ntwo.")
        keys.wait_for("weighing one")
        keys.wait_for_prompt()
        keys.type("\x04")
        assert keys.wait() == 0
        assert b"\x1b[?" not in keys.raw.replace(b"\x1b[?2004h", b"").replace(b"\x1b[?2004l", b"")  # readline's own


@pytest.mark.parametrize("size", [(80, 24), (40, 15), (23, 8)])
def test_long_answers_stand_there_once(size: tuple[int, int]) -> None:
    with keyboard(size=size, environment={"SCRIPTED_DELAY": "0.001"}) as keys:
        keys.wait_for_prompt()
        keys.type("essay\r")
        keys.wait_for("item 12b with")
        keys.wait_for_prompt()
        shown = " ".join(keys.text().split())
        for part in range(1, 13):
            assert shown.count(f"Part {part} This is paragraph {part} of a long essay, with bold words and code,") == 1
            assert shown.count(f"Row {part} ends. • item {part}a • item {part}b with some more words in it") == 1
        keys.type("code\r")
        keys.wait_for("It has 15 steps.")
        shown = keys.text()
        for step in range(1, 16):
            assert shown.count(f"def step_{step}(x):") == 1


def test_nothing_that_a_model_says_commands_the_terminal() -> None:
    with keyboard() as keys:
        keys.wait_for_prompt()
        shown = keys.ask("hostile")
        assert "a[31m red]0;title 2J <b>html</b> x (http://a.b)" in shown
        assert "[image: i] (http://c.d/e)" in shown
        assert "[1]: http://f.g" in shown
        for forbidden in (b"\x1b[31m red", b"\x1b]", b"\x07", b"\xc2\x9b", b"\x9b2J"):
            assert forbidden not in keys.raw
        assert keys.screen.title == ""


def test_the_real_model_at_the_keyboard(demo_q8: Path) -> None:
    command = [*ENGINE, str(demo_q8), "--threads", "1", "--temperature", "0"]
    with keyboard(command=command, size=(100, 30)) as keys:
        keys.wait_for_prompt()
        shown = keys.ask("What is GGUF?")
        assert "/thoughts shows it" in shown
        assert "GGUF is" in shown
        assert " · context " in shown
        keys.type("/think off\r")
        keys.wait_for("thinking is off")
        keys.wait_for_prompt()
        assert keys.ask("你好，你是谁？").count("/thoughts shows it") == 1
        started = time.monotonic()
        keys.type("/exit\r")
        assert keys.wait() == 0
        assert time.monotonic() - started < 20
