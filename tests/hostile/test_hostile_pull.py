"""What can go wrong while files are pulled: the right bytes in the end, or one line and no file under its name."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nemotron_gguf.convert.writer.lock import Lock
from nemotron_gguf.tests.hub_server import Answer, Fault, Hub, cut, header, length, redirect, short, slow, status
from nemotron_gguf.tests.pull_rehearsal import CHUNK, REPO, Program, in_parts, offer, small_model

NAME = "Small-Q4_K_M.gguf"


@pytest.fixture
def nemotron(
    hub_here: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Program:
    del hub_here
    return Program(capsys, monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_model(tmp_path_factory.mktemp("small")).read_bytes()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    whole = small_model(tmp_path_factory.mktemp("parts"))
    return {path.name: path.read_bytes() for path in in_parts(whole)}


def flipped(place: int) -> Fault:
    """A bit of the body is another, and nothing tells."""

    def fault(answer: Answer) -> Answer:
        body = bytearray(answer.body)
        if len(body) > place:
            body[place] ^= 1
        return replace(answer, body=bytes(body))

    return fault


OUTLASTED: dict[str, tuple[Fault, ...]] = {
    "cut": (cut(1000), cut(0), cut(CHUNK - 1)),
    "reset": (cut(500, reset=True),) * 3,
    "unavailable": (status(503), status(500), status(429, Retry_After="0")),
    "short": (short(100), short(1)),
    "body ends early": (length(10), cut(10)),
    "slow": (slow(4096, 0.01),),
    "expired": (status(403), status(401)),
}


@pytest.mark.parametrize("kind", OUTLASTED)
def test_what_is_outlasted(hub_here: Hub, nemotron: Program, small: bytes, kind: str) -> None:
    offer(hub_here, {NAME: small})
    hub_here.fail("storage", NAME, *OUTLASTED[kind])
    ended = nemotron("pull", REPO)
    assert ended.status == 0, ended.err
    assert (nemotron.library / NAME).read_bytes() == small


def test_addresses_that_expire_all_the_time(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    offer(hub_here, {NAME: small})
    hub_here.lifetime, hub_here.xet = 4, True
    assert nemotron("pull", REPO).status == 0
    assert (nemotron.library / NAME).read_bytes() == small


REFUSED: dict[str, tuple[str, Fault, str]] = {
    "another ETag at the storage": ("storage", header("ETag", '"x"'), "it changed while it was read"),
    "the whole file": ("storage", lambda a: replace(a, status=200), "sends the whole file where a range is asked for"),
    "another range": ("storage", header("Content-Range", "bytes 5-9/10"), "it changed"),
    "gone": ("storage", status(404), "does not have it"),
    "forbidden for ever": ("storage", status(403), "the storage refuses"),
    "nothing more": ("storage", cut(0), "nothing came for"),
    "a bit that is another": ("storage", flipped(77), "nothing of it is kept"),
    "a redirect in circles": ("storage", redirect("?again"), ""),
    "compressed": ("storage", header("Content-Encoding", "gzip"), "compressed"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_on_the_way(hub_here: Hub, nemotron: Program, small: bytes, kind: str) -> None:
    """After a quarter of the file: one line, nothing under its name; and when all is well again, the right bytes."""
    place, fault, words = REFUSED[kind]
    offer(hub_here, {NAME: small})
    hub_here.fail_always(place, NAME, fault, after=6)
    ended = nemotron("pull", REPO, patience=1 if "nothing" in kind else 20)
    one_line(ended, words)
    assert NAME not in nemotron.names()
    hub_here._faults.clear()
    assert nemotron("pull", REPO).status == 0
    assert (nemotron.library / NAME).read_bytes() == small
    assert nemotron.names() == [NAME, f"{NAME}.origin.json", f"{NAME}.sha256"]


def one_line(ended: Any, words: str) -> None:
    assert ended.status == 1, ended.err
    assert words in ended.last
    assert ended.last.startswith("nemotron: ")
    assert "Traceback" not in ended.err


def test_another_file_under_the_same_name(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    """Cut in the middle, replaced at the Hub: nothing of the old is in the new."""
    offer(hub_here, {NAME: small})
    hub_here.fail_always("storage", NAME, cut(0), after=8)
    one_line(nemotron("pull", REPO, patience=1), "nothing came")
    hub_here._faults.clear()
    changed = small[:-1] + bytes([small[-1] ^ 1])
    offer(hub_here, {NAME: changed})
    ended = nemotron("pull", REPO)
    assert ended.status == 0
    assert "afresh: what an earlier run left is of another source" in ended.err
    assert (nemotron.library / NAME).read_bytes() == changed


def sha(value: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(listing: dict[str, Any]) -> dict[str, Any]:
        for entry in listing["siblings"]:
            entry["lfs"]["sha256"] = value
        return listing

    return change


def test_a_listing_of_another_file(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    offer(hub_here, {NAME: small})
    hub_here.listed = sha("0" * 64)
    one_line(nemotron("pull", REPO), "it changed: start anew")
    assert nemotron.names() == []


def test_a_mirror_with_etags_of_its_own_and_wrong_bytes(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    """Only the SHA-256 of the listing can tell then."""
    offer(hub_here, {NAME: small})
    hub_here.listed = sha("0" * 64)
    hub_here.fail_always("hub", NAME, header("X-Linked-ETag", '"mirror"'))
    one_line(nemotron("pull", REPO), f"{'0' * 64} expected by its repository's listing; nothing of it is kept")
    assert nemotron.names() == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>no model</html>" * 20_000, "it begins with b'<htm', expected b'GGUF'"),
        (b"GGUF" + b"\xff" * 400_000, "GGUF version"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 400_000, "keys, at most"),
        (b"", "it ends at byte 0"),
    ],
)
def test_a_file_that_is_no_gguf_costs_no_download(
    hub_here: Hub, nemotron: Program, data: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nemotron_gguf.convert.hub.gguf_remote._AHEAD", 4096)
    offer(hub_here, {NAME: data})
    one_line(nemotron("pull", REPO), words)
    assert nemotron.names() == []
    assert sum(request.sent for request in hub_here.asked("storage")) <= 8192


def test_a_model_that_was_cut_before_it_was_uploaded(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    offer(hub_here, {NAME: small[:-5000]})
    one_line(nemotron("pull", REPO), "it is truncated")
    assert nemotron.names() == []


def test_a_part_that_the_repository_lacks(hub_here: Hub, nemotron: Program, parts: dict[str, bytes]) -> None:
    names = list(parts)
    offer(hub_here, {name: parts[name] for name in names[:2]})
    one_line(nemotron("pull", f"{REPO}:Q8_0"), "no complete model in GGUF")


def test_parts_that_are_mixed_up(hub_here: Hub, nemotron: Program, parts: dict[str, bytes]) -> None:
    first, second, third = parts
    offer(hub_here, {first: parts[first], second: parts[third], third: parts[second]})
    one_line(nemotron("pull", f"{REPO}:Q8_0"), "says that it is part 2 (from 0) of 3, expected 1 of 3 by its name")
    assert nemotron.names() == []


def test_a_set_that_ends_in_its_second_part(hub_here: Hub, nemotron: Program, parts: dict[str, bytes]) -> None:
    first, second, third = parts
    offer(hub_here, {f"Q8_0/{name}": data for name, data in parts.items()})
    hub_here.fail_always("storage", third, cut(0), after=3)
    one_line(nemotron("pull", f"{REPO}:Q8_0", patience=1), "nothing came")
    assert first not in nemotron.names(), "a set without its first part is none"
    assert second in nemotron.names()
    hub_here._faults.clear()
    got = len(hub_here.asked("storage", second))
    assert nemotron("pull", f"{REPO}:Q8_0").status == 0
    assert len(hub_here.asked("storage", second)) == got
    assert {name: (nemotron.library / name).read_bytes() for name in parts} == parts


EVIL = ("../evil-Q4_K_M.gguf", "/etc/evil-Q4_K_M.gguf", "a/../../evil-Q4_K_M.gguf", "..\\evil-Q4_K_M.gguf",
        "C:evil-Q4_K_M.gguf", ".evil-Q4_K_M.gguf", "a\0evil-Q4_K_M.gguf", "a//evil-Q4_K_M.gguf", "e\nvil-Q4_K_M.gguf",
        "/".join("abcdefghijk") + "-Q4_K_M.gguf")  # fmt: skip


@pytest.mark.parametrize("name", EVIL, ids=ascii)
def test_evil_names_are_nobodys(hub_here: Hub, nemotron: Program, small: bytes, name: str) -> None:
    offer(hub_here, {name: small})
    before = set(nemotron.folder.rglob("*"))
    one_line(nemotron("pull", f"{REPO}:Q4_K_M"), "has no GGUF file")
    hub_here.files |= {NAME: small, "model.safetensors": b"w", "config.json": b"{}"}
    assert nemotron("pull", f"{REPO}:Q4_K_M").status == 0
    assert nemotron("pull", REPO, "--out-dir", "out").status == 0
    made = {path.name for path in set(nemotron.folder.rglob("*")) - before}
    assert not [found for found in made if "evil" in found or "vil" in found]
    assert not Path("/etc/evil-Q4_K_M.gguf").exists()
    assert not (nemotron.folder.parent / "evil-Q4_K_M.gguf").exists()


@pytest.mark.parametrize(
    ("files", "source", "words"),
    [
        ({"config.json": b"{}"}, REPO, "has neither safetensors nor GGUF files"),
        ({"config.json": b"{}"}, f"{REPO}:Q4_K_M", "has no GGUF file"),
        ({NAME: b"x"}, f"{REPO}:Q8_0", f"has no Q8_0; choose by {REPO}:TYPE from Q4_K_M"),
        ({NAME: b"x", f"two/{NAME}": b"x"}, REPO, "2 models of type Q4_K_M; name the file"),
        ({}, f"{REPO}@v9", "has no revision v9"),
        ({}, "someone/Else", "no repository someone/Else"),
        ({}, "nonsense", "is no Hub repository"),
        ({}, f"{REPO}:", "is no Hub repository"),
        ({}, f"{REPO}:../x", "is no Hub repository"),
        ({}, "../up/name", "is no Hub repository"),
    ],
)
def test_what_is_not_there(hub_here: Hub, nemotron: Program, files: dict[str, bytes], source: str, words: str) -> None:
    offer(hub_here, files)
    one_line(nemotron("pull", source), words)
    assert nemotron.names() == []


def test_a_gated_repository(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    offer(hub_here, {NAME: small})
    hub_here.gated = True
    one_line(nemotron("pull", REPO), f"accept its licence at {hub_here.url}/{REPO}")
    assert nemotron.names() == []


def test_no_room(hub_here: Hub, nemotron: Program, small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is fetched, for a model, a folder and the Hub's cache."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10, used=9, free=1000))
    offer(hub_here, {NAME: small, "model.safetensors": small, "config.json": b"{}"})
    for arguments in ([f"{REPO}:Q4_K_M"], [REPO, "--out-dir", "new"], [REPO]):
        one_line(nemotron("pull", *arguments), "GB free")
        assert not hub_here.asked("storage")
        assert nemotron.names() == []
        assert not list(nemotron.folder.rglob("*.gguf*"))


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="needs pwrite")
def test_a_disk_that_fills_up(hub_here: Hub, nemotron: Program, small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    count, real = [0], os.pwrite

    def full(*arguments: Any) -> int:
        count[0] += 1
        if count[0] > 9:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    offer(hub_here, {NAME: small})
    ended = nemotron("pull", REPO)
    one_line(ended, "No space left on device")
    assert "the same command goes on there" in ended.last
    monkeypatch.setattr(os, "pwrite", real)
    got = len(hub_here.asked("storage"))
    assert nemotron("pull", REPO).status == 0
    assert len(hub_here.asked("storage")) - got < 21 - 4, "what came is kept"
    assert (nemotron.library / NAME).read_bytes() == small


@pytest.mark.parametrize("what", ["library", "out-dir", "target"])
def test_names_that_are_taken(hub_here: Hub, nemotron: Program, small: bytes, what: str) -> None:
    offer(hub_here, {NAME: small})
    if what == "target":
        (nemotron.library / NAME).mkdir(parents=True)
        one_line(nemotron("pull", REPO), "exists and is another file")
        return
    Path("taken").write_text("a file")
    if what == "library":
        nemotron.monkeypatch.setenv("NEMOTRON_HOME", "taken")
    arguments = ["--out-dir", "taken"] if what == "out-dir" else []
    one_line(nemotron("pull", REPO, *arguments), "taken")
    assert Path("taken").read_text() == "a file"


def test_two_at_once(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    offer(hub_here, {NAME: small})
    nemotron.library.mkdir()
    with Lock(nemotron.library / NAME):
        one_line(nemotron("pull", REPO), "is being written by process")
    assert nemotron("pull", REPO).status == 0


def test_a_damaged_sidecar_is_not_taken_for_a_checksum(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    offer(hub_here, {NAME: small})
    assert nemotron("pull", REPO).status == 0
    (nemotron.library / f"{NAME}.sha256").write_text("garbage")
    one_line(nemotron("pull", REPO), "is no checksum")


KILLED = """
import sys
from nemotron_gguf.convert.hub import fetch
fetch.CHUNK, fetch.FLUSH_SECONDS = int(sys.argv.pop(1)), 0.0
sys.argv[0] = "nemotron"
from nemotron_gguf.ui.cli import main
main()
"""


def started(hub: Hub, nemotron: Program) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(nemotron.folder / "home"), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", KILLED, str(CHUNK), "pull", REPO]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_killed_at_any_moment(hub_here: Hub, nemotron: Program, small: bytes) -> None:
    """Five kills at random moments of one download, a polite one among them; then it ends in the right bytes."""
    offer(hub_here, {NAME: small})
    hub_here.fail_always("storage", NAME, slow(4096, 0.01))
    chance, signals = random.Random(7), [signal.SIGKILL] * 4 + [signal.SIGINT]
    for number in signals:
        before = len(hub_here.asked("storage"))
        with started(hub_here, nemotron) as process:
            wanted = before + chance.randrange(3, 11)
            until = time.monotonic() + 30
            while len(hub_here.asked("storage")) < wanted and process.poll() is None and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.05)
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        assert not (nemotron.library / NAME).exists() or (nemotron.library / NAME).read_bytes() == small
        if number == signal.SIGINT and process.returncode:
            assert "the same command goes on there" in said
            assert "Traceback" not in said
    assert (nemotron.library / f"{NAME}.part").exists() or (nemotron.library / NAME).exists()
    hub_here._faults.clear()
    assert nemotron("pull", REPO).status == 0
    assert (nemotron.library / NAME).read_bytes() == small
    assert nemotron.names() == [NAME, f"{NAME}.origin.json", f"{NAME}.sha256"]
