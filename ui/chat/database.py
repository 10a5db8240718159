"""The file of conversations: where it lies, its tables, and one transaction at a time, whoever else has it open."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from nemotron_gguf.ui.chat.errors import StoreError

VARIABLE = "NEMOTRON_CHATS"
VERSION = 1
PATIENCE = 20.0  # seconds to wait for another process that writes

TABLES = """
CREATE TABLE conversations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, pinned INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    wishes TEXT NOT NULL);
CREATE TABLE messages (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    conversation TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
    parent TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, reasoning TEXT NOT NULL, more TEXT NOT NULL,
    state TEXT NOT NULL, touched REAL NOT NULL, created REAL NOT NULL, chosen INTEGER NOT NULL);
CREATE INDEX messages_of ON messages(conversation, parent);
CREATE TABLE prompts (name TEXT PRIMARY KEY, text TEXT NOT NULL);
"""


def default_path() -> Path:
    """`chats.db` in the user's data folder, or the file that NEMOTRON_CHATS names."""
    from platformdirs import user_data_path

    named = os.environ.get(VARIABLE, "").strip()
    return Path(named).expanduser() if named else user_data_path("nemotron-gguf", appauthor=False) / "chats.db"


def prepare(path: Path) -> None:
    """Make the file where it is missing, for its owner alone. Raises StoreError where it is none of ours."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    with connection(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
    with writing(path) as db:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise _unusable(path, f"it has version {found} and this program knows {VERSION}; use a newer nemotron-gguf")
        if found == 0:
            for statement in filter(str.strip, TABLES.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")


@contextlib.contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for a few statements, each a transaction of its own. Raises StoreError where one fails."""
    try:
        db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = NORMAL")
            yield db
        finally:
            db.close()
    except sqlite3.Error as error:
        raise _unusable(path, str(error)) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for several statements that happen together or not at all."""
    with connection(path) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def _unusable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"the conversations in {path} cannot be used: {why}; move the file away, or name another with {VARIABLE}"
    )
