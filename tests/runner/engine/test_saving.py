"""A conversation's memory on the disk: it comes back as it was, and what is damaged or foreign is refused."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.runner import Answer, AnyEvent, Done, RunnerError, Settings, open_model
from nemotron_gguf.runner.chat.literal import Prompt
from nemotron_gguf.runner.engine.checkpoints import Checkpoint, Parked
from nemotron_gguf.runner.engine.state_file import read_state, write_state
from nemotron_gguf.runner.process.memory_messages import Restored, RestoreState, Saved, SaveState
from nemotron_gguf.runner.process.messages import Failed
from nemotron_gguf.tests.runner.engine.conftest import Bare
from nemotron_gguf.tests.runner.engine.test_sequences import QUESTIONS, Messages, Talker


@pytest.fixture
def talker(bares: Callable[..., Bare], demo_q8: Path) -> Talker:
    return Talker(bares(demo_q8, ctx_size=1024, parallel=2), demo_q8)


def save(talker: Talker, messages: Messages, path: Path, **wishes: Any) -> Any:
    number = next(talker.bare.numbers)
    asked = messages[: -1 if messages[-1]["role"] == "assistant" else None]
    prompt, without = (Prompt(talker.prompt(said)) for said in (messages, asked))
    task = SaveState(os.fsencode(path), "us", prompt, without, **wishes)
    talker.bare.model.saving.save(number, task)
    return talker.bare.wait_for(number)


def restore(talker: Talker, path: Path, identity: str = "us") -> Any:
    number = next(talker.bare.numbers)
    talker.bare.model.saving.restore(number, RestoreState(os.fsencode(path), identity))
    return talker.bare.wait_for(number)


def test_a_conversation_comes_back_as_it_was(talker: Talker, tmp_path: Path) -> None:
    messages: Messages = []
    for question in QUESTIONS[:3]:
        talker.say(messages, question)
    path = tmp_path / "talk.state"
    saved = save(talker, messages, path)
    assert isinstance(saved, Saved)
    assert saved.nbytes == path.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["talk.state"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o77 == 0, "it is for its owner's eyes"
    expected: Messages = list(messages)
    cached = talker.say(expected, QUESTIONS[3]).usage.cached_tokens
    talker.bare.clear()
    assert restore(talker, path) == Restored(saved.tokens)
    again: Messages = list(messages)
    assert talker.say(again, QUESTIONS[3]).usage.cached_tokens == cached > 80
    assert again == expected


def test_one_that_made_room_can_be_saved_too(talker: Talker, tmp_path: Path) -> None:
    talks: list[Messages] = [[], [], []]
    for messages, name in zip(talks, ("Ada", "Bob", "Eva"), strict=True):
        talker.say(messages, f"My name is {name}.")
    assert talker.bare.model.occupancy().parked == 1
    assert isinstance(save(talker, talks[0], tmp_path / "first"), Saved)


def test_what_is_not_in_memory_cannot_be_saved(talker: Talker, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="nothing of this conversation"):
        save(talker, [{"role": "user", "content": "Hello."}], tmp_path / "x")


def test_another_conversation_is_not_saved_in_its_place(talker: Talker, tmp_path: Path) -> None:
    """One that begins alike, with the same system message, is not the one that was asked for."""
    messages: Messages = []
    talker.say(messages, "My name is Ada.")
    other: Messages = [{"role": "user", "content": "My name is Bob."}, {"role": "assistant", "content": "Hello."}]
    longer: Messages = [*messages, {"role": "user", "content": "What is GGUF?"}]
    for wrong in (other, other[:1], longer):
        with pytest.raises(RunnerError, match="nothing of this conversation"):
            save(talker, wrong, tmp_path / "x")
    number = talker.begin(longer)
    while not talker.bare.sent[number]:
        talker.bare.model.step()
    with pytest.raises(RunnerError, match="being answered"):
        save(talker, longer, tmp_path / "x")
    talker.bare.run()
    assert isinstance(save(talker, longer, tmp_path / "x"), Saved)


def test_a_file_is_not_replaced_unless_that_is_wished(talker: Talker, tmp_path: Path) -> None:
    messages: Messages = []
    talker.say(messages, QUESTIONS[0])
    path = tmp_path / "talk.state"
    path.write_text("mine")
    failed = save(talker, messages, path)
    assert isinstance(failed, Failed)
    assert "exists" in failed.message
    assert path.read_text() == "mine"
    assert isinstance(save(talker, messages, path, replace=True), Saved)


def test_a_state_for_another_model_is_refused(talker: Talker, tmp_path: Path) -> None:
    messages: Messages = []
    talker.say(messages, QUESTIONS[0])
    save(talker, messages, tmp_path / "talk.state")
    failed = restore(talker, tmp_path / "talk.state", "others")
    assert "another model" in failed.message
    assert "cannot be read" in restore(talker, tmp_path / "nothing").message


def test_what_libllama_does_not_take_is_refused(talker: Talker, tmp_path: Path) -> None:
    kept = Parked([5, 6, 7], np.zeros(1000, np.uint8))
    write_state(tmp_path / "wrong", "us", kept)
    failed = restore(talker, tmp_path / "wrong")
    assert "put a sequence's memory back" in failed.message
    assert talker.bare.model.occupancy().idle == 2
    assert talker.say([], QUESTIONS[0]).finish_reason == "stop"


def test_every_byte_counts(tmp_path: Path) -> None:
    kept = Parked(list(range(50)), np.arange(200, dtype=np.uint8), [Checkpoint(20, np.ones(30, np.uint8))])
    path = tmp_path / "talk.state"
    size = write_state(path, "us", kept)
    found = read_state(path, "us", 50, 100)
    assert (found.tokens, [one.position for one in found.checkpoints]) == (kept.tokens, [20])
    assert found.state is not None
    assert np.array_equal(found.state, np.arange(200, dtype=np.uint8))
    whole = path.read_bytes()
    assert len(whole) == size
    for place in range(0, size, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        with pytest.raises(RunnerError, match=r"damaged|no saved conversation"):
            read_state(path, "us", 50, 100)
    for length in (0, 4, 20, 44, 100, size - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunnerError, match=r"damaged|no saved conversation"):
            read_state(path, "us", 50, 100)
    path.write_bytes(whole + b"more")
    with pytest.raises(RunnerError, match="damaged"):
        read_state(path, "us", 50, 100)
    path.write_bytes(whole)
    with pytest.raises(RunnerError, match="--ctx-size"):
        read_state(path, "us", 49, 100)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A header changed by somebody who knows how to make its checksum."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[8:12], "little")
    about = json.loads(whole[44 : 44 + length])
    header = json.dumps(change(about) or about).encode()
    start = whole[:8] + len(header).to_bytes(4, "little") + hashlib.sha256(header).digest()
    path.write_bytes(start + header + whole[44 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("tokens"),
        lambda about: about.update(tokens=50.0),
        lambda about: about.update(parts=5),
        lambda about: about["parts"][2].update(position="a"),
        lambda about: about["parts"][2].update(position=10**9),
        lambda about: about["parts"][2].update(position=0),
        lambda about: about["parts"][1].update(bytes=-200),
        lambda about: about["parts"].append(about["parts"][2]),
    ],
)
def test_a_header_that_means_nothing_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = tmp_path / "talk.state"
    write_state(path, "us", Parked(list(range(50)), np.ones(200, np.uint8), [Checkpoint(20, np.ones(30, np.uint8))]))

    def changed(about: dict[str, Any]) -> None:
        change(about)

    rewritten(path, changed)
    with pytest.raises(RunnerError, match="damaged"):
        read_state(path, "us", 50, 100)


def test_tokens_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    write_state(tmp_path / "x", "us", Parked([1, 2, 100], np.ones(200, np.uint8)))
    with pytest.raises(RunnerError, match="damaged"):
        read_state(tmp_path / "x", "us", 50, 100)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_regular_file_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunnerError, match="no regular file"):
        read_state(tmp_path / "pipe", "us", 50, 100)
    with pytest.raises(RunnerError, match="no regular file"):
        write_state(tmp_path / "pipe", "us", Parked([1], np.ones(20, np.uint8)), replace=True)
    with pytest.raises(RunnerError, match="cannot be saved"):
        write_state(tmp_path / ("x" * 300), "us", Parked([1], np.ones(20, np.uint8)))


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    """Files cannot become larger, as on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk_is_one_clear_error(talker: Talker, tmp_path: Path) -> None:
    messages: Messages = []
    talker.say(messages, QUESTIONS[0])
    with largest_file(300_000):
        failed = save(talker, messages, tmp_path / "talk.state")
    assert isinstance(failed, Failed)
    assert "cannot be saved" in failed.message
    assert "\n" not in failed.message
    assert list(tmp_path.iterdir()) == [], "nothing is left half-written"
    assert isinstance(save(talker, messages, tmp_path / "talk.state"), Saved)


def said(events: list[AnyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer))


def test_another_process_goes_on_with_it(demo_q8: Path, demo_q4: Path, tmp_path: Path) -> None:
    settings, path = Settings(threads=1, temperature=0, idle_reading=False), tmp_path / "talk.state"
    with open_model(demo_q8, settings) as model:
        talk = model.conversation(system="Be brief.")
        list(talk.send("What does the convert room do?"))
        messages = [{"role": "system", "content": "Be brief."}, *talk.messages]
        with pytest.raises(RunnerError, match="nothing of this conversation"):
            model.save_state(path, talk.messages)  # without the system's message it is another
        with pytest.raises(RunnerError, match="nothing was asked"):
            model.save_state(path, [])
        saved = model.save_state(path, messages)
        assert talk.save_state(path, replace=True) == saved
        expected = said(list(talk.send("What is 8 + 5?")))
    with open_model(demo_q8, settings) as model:
        assert model.restore_state(path) == saved.tokens
        *events, done = model.answer([*messages, {"role": "user", "content": "What is 8 + 5?"}])
        assert isinstance(done, Done)
        assert done.usage.cached_tokens > 15
        assert said(events) == expected
    with open_model(demo_q4, settings) as model, pytest.raises(RunnerError, match="another model"):
        model.restore_state(path)
