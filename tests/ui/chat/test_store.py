"""Conversations that are kept: trees, search, settings, two processes at once, and what a crash leaves."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import sys
from pathlib import Path

import msgspec
import pytest

from nemotron_gguf.ui.attachments import Attachment, compose
from nemotron_gguf.ui.chat import store as store_module
from nemotron_gguf.ui.chat.errors import StoreError
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import ROOT, Chat, Facts, Message, Wishes, for_model, title_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "chats.db")


def say(store: Store, conversation: str, parent: str, content: str, **more: object) -> Message:
    role = more.pop("role", "user")
    return store.add(
        conversation, msgspec.convert({"id": "", "parent": parent, "role": role, "content": content} | more, Message)
    )


def chat_of(store: Store, conversation: str) -> Chat:
    chat = store.chat(conversation)
    assert chat is not None
    return chat


def words(store: Store, conversation: str) -> list[str]:
    return [message.content for message in chat_of(store, conversation).path()]


def test_a_tree_keeps_its_branches_and_which_is_shown(store: Store) -> None:
    entry = store.begin("Rivers")
    first = say(store, entry.id, ROOT, "Name a river")
    rhine = say(store, entry.id, first.id, "Rhine", role="assistant")
    say(store, entry.id, rhine.id, "And another")
    danube = say(store, entry.id, first.id, "Danube", role="assistant")
    assert words(store, entry.id) == ["Name a river", "Danube"], "the latest version is shown"
    store.choose(entry.id, rhine)
    assert words(store, entry.id) == ["Name a river", "Rhine", "And another"], "what followed it is there again"
    assert [one.content for one in chat_of(store, entry.id).versions(danube)] == ["Rhine", "Danube"]
    say(store, entry.id, ROOT, "Name a mountain")
    assert words(store, entry.id) == ["Name a mountain"]
    store.choose(entry.id, first)
    store.remove(entry.id, rhine)
    assert words(store, entry.id) == ["Name a river", "Danube"]
    assert {one.content for one in chat_of(store, entry.id).messages} == {"Name a river", "Danube", "Name a mountain"}
    store.remove(entry.id, first)
    assert words(store, entry.id) == ["Name a mountain"]


def test_a_message_keeps_all_of_itself(store: Store) -> None:
    call = {"type": "function", "function": {"name": "clock", "arguments": {"zone": "UTC", "n": [1, 2.5, None, "é"]}}}
    said = Message(
        "", ROOT, "assistant", "The answer 你好 \ud800", "I weigh", (call,), (Attachment("a.txt", "text", "x"),),
        "stopped",
        Facts(1.5, 20, 3.0, 40, 0.2, 13.3, 100, 4096),
    )  # fmt: skip
    wishes = Wishes("Be brief.", False, 100, 0.6, 0.95, 0, 0.1, 500, ("clock",))
    entry = store.begin("x", wishes)
    kept = store.add(entry.id, said)
    again = Store(store.path).chat(entry.id)
    assert again is not None
    assert again.entry == msgspec.structs.replace(entry, updated=again.entry.updated)
    assert again.messages == (msgspec.structs.replace(kept, content="The answer 你好 ?"),)


def test_the_list_is_searched_pinned_and_renamed(store: Store) -> None:
    one, two, three = (store.begin(title) for title in ("Apples", "Pears", "100% _juice_"))
    say(store, one.id, ROOT, "Äpfel and Trees")
    assert [entry.title for entry in store.entries()] == ["Apples", "100% _juice_", "Pears"], "the latest first"
    store.pin(two.id, True)
    assert [entry.title for entry in store.entries()] == ["Pears", "Apples", "100% _juice_"]
    assert [entry.id for entry in store.entries("trees and")] == [one.id]
    assert [entry.id for entry in store.entries("PEAR")] == [two.id]
    assert [entry.id for entry in store.entries("%")] == [three.id], "a sign is a sign"
    assert [entry.id for entry in store.entries("_")] == [three.id]
    store.rename(three.id, "<b>'; DROP TABLE messages; --")
    assert store.entries("drop")[0].title == "<b>'; DROP TABLE messages; --"
    store.delete(one.id)
    assert store.chat(one.id) is None
    assert store.entries("trees") == [], "its messages are gone with it"
    with pytest.raises(StoreError, match="deleted meanwhile"):
        say(store, one.id, ROOT, "late")


def test_an_answer_nobody_writes_on_is_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = store.begin("x")
    growing = say(store, entry.id, ROOT, "The answer is", role="assistant", state="growing")
    store.write(msgspec.structs.replace(growing, content="The answer is forty"))
    assert chat_of(store, entry.id).messages[0].state == "growing"
    monkeypatch.setattr(store_module, "ABANDONED", -1.0)
    cut = chat_of(store, entry.id).messages[0]
    assert (cut.state, cut.content) == ("cut", "The answer is forty")


def test_prompts_of_ones_own(store: Store) -> None:
    store.keep_prompt("Pirate", "Talk like a pirate.")
    store.keep_prompt("Pirate", "Arr.")
    assert store.prompts() == {"Pirate": "Arr."}
    store.keep_prompt("Pirate", " ")
    assert store.prompts() == {}


def test_the_file_is_for_its_owner(store: Store) -> None:
    if sys.platform != "win32":
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_the_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_CHATS", str(tmp_path / "mine.db"))
    assert Store().path == tmp_path / "mine.db"


def test_files_that_are_none_of_ours_are_refused_and_kept(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"no database, certainly no database" * 100)
    with pytest.raises(StoreError, match="move the file away"):
        Store(other)
    assert other.read_bytes().startswith(b"no database")
    newer = Store(tmp_path / "newer.db").path
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer nemotron-gguf"):
        Store(newer)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "file" / "chats.db")


def _write_many(path: Path, name: str) -> None:
    store = Store(path)
    entry = store.begin(name)
    at = ROOT
    for number in range(20):
        at = store.add(entry.id, Message("", at, "user", f"{name} {number}")).id


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "chats.db"
    writers = [context.Process(target=_write_many, args=(path, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    store = Store(path)
    for entry in store.entries():
        assert words(store, entry.id) == [f"{entry.title} {number}" for number in range(20)]
    assert len(store.entries()) == 2


KILLED = """
import os, sys
from pathlib import Path
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import Message, ROOT
import msgspec
store = Store(Path(sys.argv[1]))
entry = store.begin("x")
message = store.add(entry.id, Message("", ROOT, "assistant", "begun", state="growing"))
store.write(msgspec.structs.replace(message, content="begun and going"))
os._exit(9)
"""


def test_what_was_written_outlives_a_killed_process(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "chats.db"
    assert subprocess.run([sys.executable, "-c", KILLED, os.fspath(path)], check=False).returncode == 9
    store = Store(path)
    assert words(store, store.entries()[0].id) == ["begun and going"]


def test_what_the_model_reads() -> None:
    file = Attachment("my\nnotes.md", "text", "a ``` b")
    path = [
        Message("1", "", "user", "first"),
        Message("2", "1", "user", "second", files=(file,)),
        Message("3", "2", "assistant", "answer", "thought"),
    ]
    asked, answered = for_model(path)
    assert asked == {"role": "user", "content": f"first\n\n{compose('second', [file])}"}
    assert answered == {"role": "assistant", "content": "answer", "reasoning_content": "thought"}


def test_titles() -> None:
    assert title_of("  What\nis  this? ") == "What is this?"
    assert title_of("x" * 100) == "x" * 59 + "…"
