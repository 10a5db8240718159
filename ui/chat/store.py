"""Conversations kept between visits: a small store over SQLite, for any thread and for several processes at once."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from nemotron_gguf.ui.chat.database import connection, default_path, prepare, writing
from nemotron_gguf.ui.chat.errors import StoreError
from nemotron_gguf.ui.chat.tree import ROOT, Chat, Entry, Message, State, Wishes, below

_ENTRIES = "SELECT id, title, pinned, created, updated, wishes FROM conversations"
ABANDONED = 10.0  # seconds after which an answer that nobody writes on is taken for broken off


def new_id() -> str:
    """A name for a conversation or a message that nothing else has."""
    return uuid.uuid4().hex


class Store:
    """The conversations of a file. Raises StoreError where it cannot be used."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        prepare(self.path)

    def entries(self, search: str = "") -> list[Entry]:
        """The conversations, pinned ones first and then the latest; of a search, those that hold all of its words.

        A word is found in titles and in what was said, whatever its case.
        """
        words = search.split()
        found = "title LIKE ? ESCAPE '\\' OR id IN (SELECT conversation FROM messages WHERE content LIKE ? ESCAPE '\\')"
        where = " AND ".join(f"({found})" for _ in words) or "1"
        likes = [like for word in words for like in (_like(word),) * 2]
        with connection(self.path) as db:
            rows = db.execute(
                f"{_ENTRIES} WHERE {where} ORDER BY pinned DESC, updated DESC, rowid DESC", likes
            ).fetchall()
        return [_entry(row) for row in rows]

    def entry(self, wanted: str) -> Entry | None:
        """A conversation without its messages; None where there is none of that id."""
        with connection(self.path) as db:
            row = db.execute(f"{_ENTRIES} WHERE id = ?", (wanted,)).fetchone()
        return _entry(row) if row else None

    def chat(self, wanted: str) -> Chat | None:
        """A conversation with its messages; None where there is none of that id."""
        with connection(self.path) as db:
            db.execute("BEGIN")  # one moment for both
            row = db.execute(f"{_ENTRIES} WHERE id = ?", (wanted,)).fetchone()
            rows = db.execute(
                "SELECT id, parent, role, content, reasoning, more, state, touched, created, chosen FROM messages"
                " WHERE conversation = ? ORDER BY place",
                (wanted,),
            ).fetchall()
        return Chat(_entry(row), tuple(map(_message, rows))) if row else None

    def begin(self, title: str, wishes: Wishes | None = None) -> Entry:
        """A new conversation."""
        now = time.time()
        entry = Entry(new_id(), title, False, now, now, wishes or Wishes())
        with writing(self.path) as db:
            _insert_entry(db, entry)
        return entry

    def rename(self, conversation: str, title: str) -> None:
        """Give a conversation another title."""
        self._set(conversation, "title = ?", title)

    def pin(self, conversation: str, pinned: bool) -> None:
        """Keep a conversation at the top, or no longer."""
        self._set(conversation, "pinned = ?", int(pinned))

    def wish(self, conversation: str, wishes: Wishes) -> None:
        """Hold a conversation with other settings from now on."""
        self._set(conversation, "wishes = ?", msgspec.json.encode(wishes).decode())

    def delete(self, conversation: str) -> None:
        """Forget a conversation."""
        with writing(self.path) as db:
            db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def add(self, conversation: str, message: Message) -> Message:
        """Add a message under its parent, and show it among those beside it; `id` and `created` are given here.

        Raises StoreError where the conversation has been deleted.
        """
        message = msgspec.structs.replace(message, id=message.id or new_id(), created=time.time(), chosen=True)
        with writing(self.path) as db:
            if not db.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation,)).fetchone():
                raise StoreError("this conversation was deleted meanwhile; begin a new one")
            db.execute(
                "UPDATE messages SET chosen = 0 WHERE conversation = ? AND parent = ?", (conversation, message.parent)
            )
            _insert_message(db, conversation, message)
            _touch(db, conversation)
        return message

    def write(self, message: Message) -> None:
        """Replace what a message says and how it stands; where it was deleted meanwhile, nothing happens."""
        with writing(self.path) as db:
            db.execute(
                "UPDATE messages SET content = ?, reasoning = ?, more = ?, state = ?, touched = ? WHERE id = ?",
                (*_texts(message), message.state, time.time(), message.id),
            )

    def choose(self, conversation: str, message: Message) -> None:
        """Show a message among those in its place."""
        with writing(self.path) as db:
            db.execute(
                "UPDATE messages SET chosen = (id = ?) WHERE conversation = ? AND parent = ?",
                (message.id, conversation, message.parent),
            )

    def remove(self, conversation: str, message: Message) -> None:
        """Forget a message and all that follows from it; the latest of those in its place is shown instead."""
        with writing(self.path) as db:
            rows = db.execute("SELECT id, parent FROM messages WHERE conversation = ?", (conversation,)).fetchall()
            gone = below([Message(one, parent, "user") for one, parent in rows], message.id)
            db.executemany("DELETE FROM messages WHERE id = ?", [(one,) for one in gone])
            db.execute(
                "UPDATE messages SET chosen = (place = (SELECT max(place) FROM messages WHERE conversation = ?1"
                " AND parent = ?2)) WHERE conversation = ?1 AND parent = ?2",
                (conversation, message.parent),
            )
            _touch(db, conversation)

    def restore(self, chats: Iterable[Chat]) -> list[Entry]:
        """Add conversations from elsewhere, under ids of their own where theirs are taken."""
        restored = []
        with writing(self.path) as db:
            for chat in chats:
                taken = db.execute("SELECT 1 FROM conversations WHERE id = ?", (chat.entry.id,)).fetchone()
                names = {one.id: new_id() for one in chat.messages} if taken or _any_taken(db, chat) else {}
                entry = msgspec.structs.replace(chat.entry, id=new_id()) if names or taken else chat.entry
                _insert_entry(db, entry)
                for one in chat.messages:
                    renamed = msgspec.structs.replace(
                        one, id=names.get(one.id, one.id), parent=names.get(one.parent, one.parent)
                    )
                    _insert_message(db, entry.id, renamed)
                restored.append(entry)
        return restored

    def prompts(self) -> dict[str, str]:
        """The user's own system messages, by name."""
        with connection(self.path) as db:
            return dict(db.execute("SELECT name, text FROM prompts ORDER BY name").fetchall())

    def keep_prompt(self, name: str, text: str) -> None:
        """Keep a system message under a name; an empty one is forgotten."""
        with writing(self.path) as db:
            db.execute("DELETE FROM prompts WHERE name = ?", (name,))
            if text.strip():
                db.execute("INSERT INTO prompts VALUES (?, ?)", (name, text))

    def _set(self, conversation: str, what: str, value: object) -> None:
        with writing(self.path) as db:
            db.execute(f"UPDATE conversations SET {what} WHERE id = ?", (value, conversation))


def _like(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _touch(db: sqlite3.Connection, conversation: str) -> None:
    db.execute("UPDATE conversations SET updated = ? WHERE id = ?", (time.time(), conversation))


def _any_taken(db: sqlite3.Connection, chat: Chat) -> bool:
    known = (db.execute("SELECT 1 FROM messages WHERE id = ?", (one.id,)).fetchone() for one in chat.messages)
    return any(known)


def _insert_entry(db: sqlite3.Connection, entry: Entry) -> None:
    wishes = msgspec.json.encode(entry.wishes).decode()
    row = (entry.id, entry.title, int(entry.pinned), entry.created, entry.updated, wishes)
    db.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?)", row)


def _insert_message(db: sqlite3.Connection, conversation: str, message: Message) -> None:
    content, reasoning, more = _texts(message)
    db.execute(
        "INSERT INTO messages (id, conversation, parent, role, content, reasoning, more, state, touched, created,"
        " chosen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.id, conversation, message.parent or ROOT, message.role, content, reasoning, more, message.state,
            time.time(), message.created, int(message.chosen),
        ),
    )  # fmt: skip


def _texts(message: Message) -> tuple[str, str, str]:
    """Content, reasoning and the rest, as SQLite can hold them."""
    more = msgspec.json.encode({"calls": message.calls, "files": message.files, "facts": message.facts})
    whole = (text.encode("utf-8", "replace").decode("utf-8") for text in (message.content, message.reasoning))
    content, reasoning = whole
    return content, reasoning, more.decode()


def _entry(row: tuple[Any, ...]) -> Entry:
    name, title, pinned, created, updated, wishes = row
    return Entry(name, title, bool(pinned), created, updated, msgspec.json.decode(wishes, type=Wishes))


def _message(row: tuple[Any, ...]) -> Message:
    name, parent, role, content, reasoning, more, state, touched, created, chosen = row
    said: dict[str, Any] = {"id": name, "parent": parent, "role": role, "content": content, "reasoning": reasoning}
    said |= msgspec.json.decode(more)
    return msgspec.convert(
        said | {"state": _state(state, touched), "created": created, "chosen": bool(chosen)}, Message
    )


def _state(state: State, touched: float) -> State:
    """How a message stands: one on which nobody writes any more, because a program was ended, is cut."""
    return "cut" if state == "growing" and time.time() - touched > ABANDONED else state
