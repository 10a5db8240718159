"""Conversations leave as files and come back the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_gguf.ui.attachments import Attachment
from nemotron_gguf.ui.attachments.attachment import Kind
from nemotron_gguf.ui.chat import exchange
from nemotron_gguf.ui.chat.errors import ExchangeError
from nemotron_gguf.ui.chat.store import Store
from nemotron_gguf.ui.chat.tree import ROOT, Chat, Entry, Facts, Message, Wishes

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(0, 1e6)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    messages: list[Message] = []
    for number in range(draw(st.integers(0, 6))):
        parent = draw(st.sampled_from([ROOT, *(one.id for one in messages)]))
        kinds: st.SearchStrategy[Kind] = st.sampled_from(("csv", "pdf"))
        files = tuple(
            Attachment(draw(texts), draw(kinds), draw(texts), draw(texts)) for _ in range(draw(st.integers(0, 1)))
        )
        calls = ({"function": {"name": draw(texts), "arguments": {draw(texts): draw(texts)}}},)
        messages.append(
            Message(
                f"m{number}", parent, draw(st.sampled_from(["user", "assistant", "tool"])), draw(texts), draw(texts),
                calls[: draw(st.integers(0, 1))], files, draw(st.sampled_from(["whole", "cut", "stopped"])),
                Facts(draw(numbers), 3), draw(numbers), draw(st.booleans()),
            )
        )  # fmt: skip
    wishes = Wishes(
        draw(texts), draw(st.booleans()), draw(st.none() | st.integers(0, 9)), draw(st.none() | st.just(0.6))
    )
    return Chat(
        Entry(draw(texts), draw(texts), draw(st.booleans()), draw(numbers), draw(numbers), wishes), tuple(messages)
    )


@settings(deadline=None, max_examples=20)
@given(chats())
def test_json_comes_back_the_same(chat: Chat) -> None:
    assert exchange.from_json(exchange.to_json([chat])) == [chat]


def example() -> Chat:
    call = {"type": "function", "function": {"name": "clock", "arguments": {}}}
    return Chat(
        Entry("c", "A | title", True, 1.0, 2.0, Wishes(system="Be brief.")),
        (
            Message("1", ROOT, "user", "Hi", files=(Attachment("a.txt", "text", "x"),)),
            Message("2", "1", "assistant", "", "Let me see", (call,), chosen=True),
            Message("3", "2", "tool", "12:00"),
            Message("4", "3", "assistant", "Noon"),
            Message("5", "1", "assistant", "Another", chosen=False),
        ),
    )


def test_the_store_takes_it_back_also_twice(tmp_path: Path) -> None:
    store, chat = Store(tmp_path / "a.db"), example()
    store.restore([chat])
    assert store.chat("c") == chat
    second = store.restore([chat])[0]
    assert second.id != "c"
    again = store.chat(second.id)
    assert again is not None
    assert [one.content for one in again.path()] == ["Hi", "", "12:00", "Noon"]
    assert store.chat("c") == chat


def test_markdown_is_for_people() -> None:
    text = exchange.to_markdown(example(), "Demo")
    assert text.startswith("# A | title\n\n## System\n\nBe brief.\n\n## You\n\n*a.txt*\n\nHi\n\n## Demo")
    assert '```json\n{"name": "clock", "arguments": {}}\n```' in text
    assert "Another" not in text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no sound"),
        (b"\xff\xfe", "no sound"),
        (b"[" * 100_000, "no sound"),
        (b"[]", "holds no conversations"),
        (b'{"format": "else"}', "holds no conversations"),
        (json.dumps({"format": exchange.FORMAT, "version": 2}).encode(), "version 2"),
        (json.dumps({"format": exchange.FORMAT, "version": 1, "conversations": [{}]}).encode(), "no sound"),
    ],
)
def test_other_files_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ExchangeError, match=said):
        exchange.from_json(data)


@pytest.mark.parametrize("parents", [("1",), ("", "3", "2"), ("", "")])
def test_what_is_no_tree_is_refused(parents: tuple[str, ...]) -> None:
    names = ["1", "1"] if parents == ("", "") else ["1", "2", "3"]
    messages = tuple(Message(name, parent, "user", "x") for name, parent in zip(names, parents, strict=False))
    with pytest.raises(ExchangeError, match="no tree"):
        exchange.from_json(exchange.to_json([Chat(Entry("c", "t", False, 0.0, 0.0), messages)]))
