"""Saved conversations, attached files and the history: what is foreign or hostile is one clear line."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.runner import RunnerError
from nemotron_gguf.ui.terminal import saved
from nemotron_gguf.ui.terminal.attach import split_paths
from nemotron_gguf.ui.terminal.completion import completions

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "look\u2028 \ud800here"},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "hm",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": [1, None, "文"]}}}],
    },
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "It is 42."},
]


def kept(**changes: Any) -> saved.Saved:
    options: dict[str, Any] = {"messages": saved.from_messages(MESSAGES[1:]), "system": "be brief", "budget": 7}
    return saved.Saved(saved.FORMAT, saved.VERSION, "Tiny", saved.now(), **options | changes)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    size = saved.save(kept(), path)
    assert size == path.stat().st_size
    found = saved.load(path)
    assert saved.as_messages(found.messages) == MESSAGES[1:]
    assert (found.system, found.budget, found.thinking) == ("be brief", 7, True)
    with pytest.raises(RunnerError, match=r"is there already; /save! "):
        saved.save(kept(), path)
    saved.save(kept(system=None), path, replace=True)
    assert saved.load(path).system is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.json"]


def test_half_characters_do_not_stop_a_save(tmp_path: Path) -> None:
    saved.save(kept(messages=saved.from_messages(MESSAGES)), tmp_path / "a.json")
    saved.save(kept(messages=saved.from_messages(MESSAGES)), tmp_path / "a.md")
    assert saved.load(tmp_path / "a.json").messages[0].content == "look\u2028 ?here"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.json"
    saved.save(kept(), path)
    before = path.read_bytes()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunnerError, match="No space left"):
        saved.save(kept(system="other"), path, replace=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "its format is not"),
        (b'{"format": "x"}', "its format is not"),
        ({"version": 2}, "version 2, expected 1"),
        ({"messages": [{"role": "robot", "content": ""}]}, r"robot"),
        ({"messages": [{"role": "user", "content": 3}]}, r"\$\.messages\[0\]\.content"),
        ({"messages": [{"role": "user", "content": "a", "extra": 1}]}, "extra"),
        ({"messages": 1}, "messages"),
        ({"budget": "x"}, "budget"),
        ({"budget": -1}, "budget"),
    ],
)
def test_foreign_files_are_one_line(tmp_path: Path, content: bytes | dict[str, Any], words: str) -> None:
    path = tmp_path / "talk.json"
    saved.save(kept(), path)
    data = content if isinstance(content, bytes) else json.dumps(json.loads(path.read_text()) | content).encode()
    path.write_bytes(data)
    with pytest.raises(RunnerError, match=words) as error:
        saved.load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_paths_of_a_command(tmp_path: Path) -> None:
    spaced = tmp_path / "a b.txt"
    spaced.touch()
    assert split_paths(str(spaced)) == [str(spaced)]
    assert split_paths("'a b' c\\ d e") == ["a b", "c d", "e"]
    assert split_paths("it's") == ["it's"]
    folder = tmp_path / "sub dir"
    folder.mkdir()
    (folder / "x.txt").touch()
    assert [word for word, *_ in completions(f"/file {tmp_path}/")] == ["a\\ b.txt", "sub\\ dir/"]
    escaped = str(folder).replace(" ", "\\ ")
    assert completions(f"/load one {escaped}/x") == [("x.txt", 1, "")]
    assert completions(f"/file {tmp_path}/a\\ b") == [("a\\ b.txt", 4, "")]
    assert completions("/file /none/such/") == []
    assert completions("hello /fi") == []
    assert [word for word, *_ in completions("/th")] == ["/think", "/thoughts"]
    assert completions("/effort l") == [("low", 1, "")]


def test_a_history_that_is_too_long_loses_its_older_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nemotron_gguf.ui.terminal import history

    path = tmp_path / "history"
    monkeypatch.setenv("NEMOTRON_HISTORY", str(path))
    monkeypatch.setattr(history, "LARGEST", 4000)
    kept_history = history.open_history()
    for number in range(200):
        kept_history.append_string(f"message {number}\nline two")
    kept_history.append_string("x" * (history.LONGEST + 1))
    assert path.stat().st_size > 4000
    again = history.open_history()
    found = list(again.load_history_strings())
    assert path.stat().st_size < 2100
    assert found[0] == "message 199\nline two"
    assert all(one.startswith("message ") and one.endswith("line two") for one in found)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("NEMOTRON_HISTORY", "/proc/none/history")
    assert history.open_history().get_strings() == []
