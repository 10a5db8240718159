"""Answers that belong to the server: kept as they grow, one a conversation, stopped, continued, failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemotron_gguf.runner import ChatModel
from nemotron_gguf.ui.chat import generation as generation_module
from nemotron_gguf.ui.chat.errors import AnsweringError, StoreError
from nemotron_gguf.ui.chat.generation import Generation, Generations, told
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import ROOT, Chat, Entry, Message, Wishes
from nemotron_gguf.ui.chat.view import live_rows, marks_of, owners, rows_of
from nemotron_gguf.ui.chat.words import CHINESE, ENGLISH, words_for

LONG = "word " * 100_000
ENOUGH = 60  # seconds


class House:
    """A store with one conversation, and its answers."""

    def __init__(self, model: ChatModel, path: Path) -> None:
        self.store = Store(path)
        self.generations = Generations(model, self.store)
        self.id = self.store.begin("A title", Wishes(system="Be brief.", temperature=0.5)).id

    def ask(self, text: str) -> Generation:
        path = self.chat().path()
        asked = self.store.add(self.id, Message("", path[-1].id if path else ROOT, "user", text))
        return self.generations.answer(self.id, asked.id)

    def chat(self) -> Chat:
        found = self.store.chat(self.id)
        assert found is not None
        return found


@pytest.fixture
def house(scripted_model: Callable[..., ChatModel], tmp_path: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(said: str = "The answer", delay: float = 0.0) -> House:
        made.append(House(scripted_model(lambda _: f"I weigh.</think>\n\n{said}", delay), tmp_path / "chats.db"))
        return made[-1]

    yield make
    for one in made:
        one.generations.stop_all()


def until(true: Callable[[], object]) -> None:
    for _ in range(ENOUGH * 100):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_an_answer_is_kept_with_what_it_took(house: Callable[..., House]) -> None:
    one = house()
    generation = one.ask("Why?")
    assert generation.wait(ENOUGH)
    asked, answer = one.chat().path()
    assert (asked.content, answer.content, answer.reasoning, answer.state) == (
        "Why?",
        "The answer",
        "I weigh.",
        "whole",
    )
    assert answer.facts.tokens > 0
    assert answer.facts.seconds > 0
    assert one.generations.live() == []
    engine = generation.talk.model.engine
    assert engine.prompts == ["[system]Be brief.[user]Why?[assistant]<think>\n"]  # type: ignore[attr-defined]
    assert engine.tasks[0].sampling.temperature == 0.5  # type: ignore[attr-defined]


def test_what_grows_is_kept_meanwhile(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_module, "SAVED_EVERY", 0.01)
    one = house(LONG, 0.001)
    generation = one.ask("Why?")
    until(lambda: "word" in one.chat().path()[-1].content)
    assert one.chat().path()[-1].state == "growing"
    with pytest.raises(AnsweringError):
        one.generations.answer(one.id, one.chat().path()[0].id)
    generation.stop()
    assert generation.wait(ENOUGH)
    stopped = one.chat().path()[-1]
    assert stopped.state == "stopped"
    again = one.generations.go_on(one.id, stopped.id)
    until(lambda: len(again.progress.message.content) > len(stopped.content))
    one.generations.stop(one.id)
    assert one.chat().path()[-1].content.startswith(stopped.content)
    assert len(one.chat().messages) == 2, "it is the same message"
    engine = again.talk.model.engine
    assert engine.prompts[1].startswith(engine.prompts[0] + "I weigh.\n</think>\n\nword")  # type: ignore[attr-defined]


def test_where_nothing_was_said_nothing_is_left(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    one = house()
    first = one.ask("Why?")
    assert first.wait(ENOUGH)

    def fails(*_: object, **__: object) -> None:
        raise StoreError("no room on the disk; make some")

    monkeypatch.setattr(type(first.talk), "reply", fails)
    asked = one.chat().path()[0]
    failed = one.generations.answer(one.id, asked.id)
    assert failed.wait(ENOUGH)
    assert [message.content for message in one.chat().path()] == ["Why?", "The answer"], "the version before is shown"
    assert failed.progress.error is not None
    assert told(failed.progress.error, ENGLISH) == "no room on the disk; make some"
    monkeypatch.undo()
    again = one.generations.answer(one.id, asked.id)
    assert again.wait(ENOUGH)
    assert len(one.chat().versions(one.chat().path()[-1])) == 2


def test_a_full_disk_does_not_end_an_answer(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_module, "SAVED_EVERY", 0.001)
    one = house("x" * 200, 0.001)

    def full(*_: object) -> None:
        raise StoreError("the disk is full; make room")

    monkeypatch.setattr(one.store, "write", full)
    generation = one.ask("Why?")
    assert generation.wait(ENOUGH)
    assert generation.progress.message.content == "x" * 200
    assert "full" in str(generation.progress.error)


def test_a_deleted_conversation_can_be_answered_no_more(house: Callable[..., House]) -> None:
    one = house()
    one.store.delete(one.id)
    with pytest.raises(StoreError, match="begin a new one"):
        one.generations.answer(one.id, "x")
    assert one.generations.live() == []


def test_rows_and_marks_say_the_same() -> None:
    call = {"type": "function", "function": {"name": "clock_now", "arguments": {"zone": "UTC"}}}
    messages = (
        Message("1", ROOT, "user", "Hi <b>"),
        Message("2", "1", "assistant", "", "Let me see", (call,)),
        Message("3", "2", "tool", "12:00"),
        Message("4", "3", "assistant", "Noon", state="cut"),
        Message("5", "1", "assistant", "Other", chosen=False),
    )
    chat = Chat(Entry("c", "A", False, 0.0, 0.0), messages)
    path = chat.path()
    rows = rows_of(path, ENGLISH)
    assert [row["content"] for row in rows] == [
        "Hi \\<b>", "Let me see", '```json\n{\n "zone": "UTC"\n}\n```', "```\n12:00\n```", "Noon", "*(cut short)*",
    ]  # fmt: skip
    assert [message.id for message in owners(path, ENGLISH)] == ["1", "2", "2", "3", "4", "4"]
    first, second = marks_of(chat, path, ENGLISH)
    assert first["id"] == "1"
    assert "version" not in first
    assert (second["id"], second["version"], second["later"]) == ("2", "Version 1 of 2", "5")


def test_what_is_shown_while_it_waits_reads_and_thinks(house: Callable[..., House]) -> None:
    generation = house(LONG, 0.001).ask("Why?")
    progress = generation.progress
    until(lambda: progress.message.content.startswith("word"))  # which comes in pieces
    thought, said = live_rows(progress, CHINESE)
    assert thought["metadata"]["title"] == "思考过程"
    assert thought["metadata"]["status"] == "done"
    assert said["content"].startswith("word")
    fresh = generation_module.Progress(Message("1", ROOT, "assistant"))
    assert live_rows(fresh, ENGLISH) == [{"role": "assistant", "content": "*Waiting for the model …*"}]
    fresh.phase, fresh.read = "reading", (5, 10)
    assert "5 of 10" in live_rows(fresh, ENGLISH)[0]["content"]
    fresh.phase, fresh.message = "thinking", Message("1", ROOT, "assistant", reasoning="Hm")
    assert live_rows(fresh, ENGLISH)[0]["metadata"]["status"] == "pending"


def test_both_languages_have_the_same_words() -> None:
    assert ENGLISH.keys() == CHINESE.keys()
    for key, text in ENGLISH.items():
        assert text.count("{") == CHINESE[key].count("{"), key
    assert words_for("zh-TW,zh;q=0.9") is CHINESE
    assert words_for("de, zh;q=0.5") is ENGLISH
    assert words_for("zh-CN", "a=b; nemotron_language=en") is ENGLISH
    assert words_for("en", "nemotron_language=zh") is CHINESE
    assert words_for("en", "\x00;;=") is ENGLISH
