"""A Hub that fails, lies and changes: each case ends in the right bytes, or in one clear line and never wrong ones."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub.patience import VARIABLE
from nemotron_gguf.convert.source.checkpoint import open_checkpoint
from nemotron_gguf.tests.hub_server import (
    COMMIT,
    REPO,
    Answer,
    Fault,
    Hub,
    as_it_is,
    chunked_short,
    cut,
    header,
    length,
    more,
    nonsense,
    redirect,
    serve,
    short,
    silent,
    slow,
    status,
)

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

SHARD = "model-00002-of-00003.safetensors"
PIECE = 20_000  # bytes of a read
PATIENCE, LITTLE = 10.0, 1.5  # seconds without a byte: more than a busy machine takes, and what is waited for in vain
IN_VAIN = {"503 for ever", "429 for ever", "cut for ever", "silence for ever", "the Hub is down"}
Setting = Callable[[Hub], object]


@pytest.fixture
def hub(checkpoints: Checkpoints) -> Iterator[Hub]:
    """A repository of three shards."""
    with serve(sorted(checkpoints.get("moe-bf16").iterdir())) as offered:
        yield offered


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(PATIENCE))


def read_all(hub: Hub) -> None:
    """Open the repository and read every byte of its shards by several threads; they must be the right ones."""
    expected = {name: data for name, data in hub.files.items() if name.endswith(".safetensors")}
    with open_checkpoint(REPO, progress=False) as checkpoint, ThreadPoolExecutor(4) as pool:
        assert len(checkpoint.shards) == len(expected)
        for shard, (name, data) in zip(checkpoint.shards, expected.items(), strict=True):
            starts = range(0, len(data), PIECE)
            pieces = pool.map(lambda start: shard.read(start, min(PIECE, shard.source.size - start)), starts)  # noqa: B023
            assert b"".join(pieces) == data, name


def storage(*faults: Fault) -> Setting:
    """Faults of the storage's next answers about one shard, after the one with its header."""
    return lambda hub: hub.fail("storage", SHARD, as_it_is, *faults)


def storage_always(fault: Fault) -> Setting:
    return lambda hub: hub.fail_always("storage", SHARD, fault, after=1)


def expiring(after: float = 3, refused: int = 403) -> Setting:
    def setting(hub: Hub) -> None:
        hub.lifetime, hub.refused = after, refused

    return setting


def renewed(fault: Fault) -> Setting:
    """The Hub's answer from the second on, when the storage's address has expired."""

    def setting(hub: Hub) -> None:
        hub.lifetime = 3
        hub.fail_always("hub", SHARD, fault, after=1)

    return setting


def first(fault: Fault) -> Setting:
    """The Hub's answer about one shard, always."""
    return lambda hub: hub.fail_always("hub", SHARD, fault)


def both(*settings: Setting) -> Setting:
    return lambda hub: [setting(hub) for setting in settings]


def listing(change: Callable[[dict[str, Any]], Any]) -> Setting:
    """The Hub's listing changed, or another value instead."""

    def changed(value: dict[str, Any]) -> Any:
        result = change(value)
        return value if result is None else result

    return lambda hub: setattr(hub, "listed", changed)


def shard_entry(**changes: Any) -> Setting:
    def change(value: dict[str, Any]) -> None:
        next(entry for entry in value["siblings"] if entry["rfilename"] == SHARD).update(changes)

    return listing(change)


def evil_names(value: dict[str, Any]) -> None:
    names = ["../../evil.json", "/etc/evil.json", "C:\\evil.json", "a/../../b.json", ".evil.json", "ev\0il.json", ""]
    value["siblings"] += [{"rfilename": name, "size": 10, "blobId": "0" * 40} for name in names]


def as_weak(answer: Answer) -> Answer:
    return header("ETag", "W/" + answer.headers["ETag"])(answer)


def shrunk(hub: Hub) -> None:
    """The file in the storage becomes shorter when half of it is read."""

    def fault(_: Answer) -> Answer:
        total = len(hub.files[SHARD]) // 3
        return Answer(416, {"Content-Range": f"bytes */{total}"})

    hub.fail_always("storage", SHARD, fault, after=2)


OUTLASTED: dict[str, Setting] = {
    "nothing wrong": lambda _: None,
    "cut before the first byte": storage(cut(0)),
    "cut after some bytes": storage(cut(7_001)),
    "cut and reset": storage(cut(5_000, reset=True), cut(1, reset=True)),
    "every answer cut": storage_always(cut(6_000)),
    "503 for a while": storage(*[status(503)] * 5),
    "500, 502, 504, 408": storage(*[status(code) for code in (500, 502, 504, 408)]),
    "429 without a word": storage(status(429), status(429)),
    "fewer bytes than asked for": storage(short(1_000), short(1)),
    "always fewer bytes": storage_always(short(4_000)),
    "Content-Length too long, then the end": storage(length(PIECE), cut(100)),
    "no Content-Length, an early end": storage(chunked_short(9_999)),
    "silence": storage(silent(1.5)),
    "a byte now and then": storage(slow(1, 0.2)),
    "no HTTP": storage(nonsense(b"\0\1\2 hello\r\n\r\n"), nonsense(b"")),
    "addresses that expire (403)": expiring(3),
    "addresses that expire (401)": expiring(4, 401),
    "addresses that expire (400)": expiring(2, 400),
    "addresses that expire (410)": expiring(5, 410),
    "addresses that are used up (404)": expiring(4, 404),
    "addresses good for one answer": expiring(1),
    "addresses expire, and the Hub is down for a while": both(
        expiring(3), lambda hub: hub.fail("hub", SHARD, as_it_is, status(503), status(500), nonsense(b"?"))
    ),
    "addresses expire, and answers are cut": both(expiring(4), storage_always(cut(11_000))),
    "one answer with the whole file": storage(lambda _: Answer(200, {}, b"x" * 100_000)),
    "one answer with other bytes than asked for": storage(header("Content-Range", f"bytes 0-{PIECE - 1}/*")),
    "one answer with another size": storage(header("Content-Range", f"bytes 0-{PIECE - 1}/77")),
    "one answer with another ETag": storage(header("ETag", '"other"')),
    "a page of a proxy": storage(*[lambda _: Answer(200, {"Content-Type": "text/html"}, b"<html>log in</html>")] * 2),
    "a redirect within the storage": storage(redirect("")),
    "a weak ETag": storage(as_weak),
    "Xet": lambda hub: setattr(hub, "xet", True),
    "Xet, expiring": both(expiring(3), lambda hub: setattr(hub, "xet", True)),
    "the Hub's listing fails for a while": lambda hub: hub.fail("api", "*", status(503), status(429), cut(10)),
    "a listing without sizes": listing(lambda v: [entry.pop("size") for entry in v["siblings"]] and None),
    "a listing without hashes": listing(lambda v: [entry.pop("lfs", 0) for entry in v["siblings"]] and None),
    "a listing with evil names": listing(evil_names),
}

REFUSED: dict[str, tuple[Setting, str, bool]] = {
    # what the storage says: the setting, words of the line, and whether the same command may go on later
    "the whole file always": (storage_always(lambda a: Answer(200, {}, a.body)), "sends the whole file", False),
    "other bytes always": (storage_always(header("Content-Range", f"bytes 0-{PIECE - 1}/*")), "answers bytes", False),
    "no Content-Range": (storage_always(header("Content-Range", None)), "Content-Range ''", False),
    "a Content-Range of words": (storage_always(header("Content-Range", "bytes all/some")), "'bytes all/some'", False),
    "a Content-Range turned round": (storage_always(header("Content-Range", "bytes 9-1/*")), "with 9-1", False),
    "more bytes than asked for": (storage_always(more(b"!")), "answers bytes", False),
    "Content-Length too short": (storage_always(length(10)), "and 10 bytes", False),
    "compressed bytes": (storage_always(header("Content-Encoding", "gzip")), "compressed", False),
    "another size": (storage_always(header("Content-Range", f"bytes 0-{PIECE - 1}/77")), "has 77 bytes", False),
    "a file that shrank": (shrunk, "it changed", False),
    "an ETag that changed": (storage_always(header("ETag", '"other"')), "it changed while it was read", False),
    "an odd status": (storage_always(status(418)), "answered 418", False),
    "403 for ever": (storage_always(status(403)), "refuses every address", True),
    "404 for ever": (storage_always(status(404)), "does not have it", False),
    "503 for ever": (storage_always(status(503)), "answered 503", True),
    "429 for ever": (storage_always(status(429, Retry_After="1")), "answered 429", True),
    "cut for ever": (storage_always(cut(0)), "nothing came", True),
    "silence for ever": (storage_always(silent(1.2)), "nothing came", True),
    "a redirect in a circle": (storage_always(redirect("?")), "TooManyRedirects", False),
    # what the Hub says when it is asked again
    "the Hub's ETag changed": (renewed(header("X-Linked-ETag", '"' + "0" * 64 + '"')), "it changed", False),
    "the Hub's size changed": (renewed(header("X-Linked-Size", "12345")), "has 12345 bytes now", False),
    "another commit": (renewed(header("X-Repo-Commit", "f" * 40)), "answers with commit ffff", False),
    "gated meanwhile": (renewed(status(403, X_Error_Code="GatedRepo")), "accept its licence", True),
    "the token is revoked": (renewed(status(401)), "hf auth login", True),
    "the repository is gone": (renewed(status(404, X_Error_Code="RepoNotFound")), "has no repository", True),
    "the file is gone": (renewed(status(404, X_Error_Code="EntryNotFound")), r"does not have \(404\)", False),
    "the Hub is down": (renewed(status(502)), "the Hub answered 502", True),
    # what the Hub says at first
    "a wrong ETag at first": (first(header("X-Linked-ETag", '"' + "0" * 64 + '"')), "it changed", False),
    "a wrong size at first": (first(header("X-Linked-Size", "1")), "has 1 bytes now", False),
    "a size below nothing": (first(header("X-Linked-Size", "-1")), "no size or no ETag", False),
    "no size": (first(header("X-Linked-Size", None)), "no size or no ETag|has 0 bytes now", False),
    "a file: address": (first(header("Location", "file:///etc/passwd")), "not https|no repository", False),
    "a redirect in a circle at the Hub": (first(redirect("?")), "redirects|no repository", False),
    # the listing
    "a listing that is no JSON": (
        lambda hub: hub.fail_always("api", "*", lambda _: Answer(200, {}, b"<html>")),
        "Expecting value",
        False,
    ),
    "a listing that is a list": (listing(lambda _: [1, 2]), "makes no sense", False),
    "files that are texts": (listing(lambda v: v | {"siblings": ["a", "b"]}), "makes no sense", False),
    "names that are numbers": (listing(lambda v: v | {"siblings": [{"rfilename": 7}]}), "no config.json", False),
    "no commit": (listing(lambda v: v | {"sha": None}), "commit 'None'", False),
    "a commit that is a path": (listing(lambda v: v | {"sha": "../../../etc"}), "commit '../../../etc'", False),
    "a negative size": (shard_entry(lfs={"size": -5, "sha256": "0" * 64, "pointerSize": 1}), "'-5' bytes", False),
    "a size that is a text": (shard_entry(lfs=None, size="big"), "'big' bytes", False),
    "a huge size": (shard_entry(lfs={"size": 1 << 50, "sha256": "0" * 64, "pointerSize": 1}), "expected", False),
    "a small file of a terabyte": (
        listing(lambda v: [e.update(size=10**12) for e in v["siblings"] if e["rfilename"] == "config.json"] and None),
        "at most 67108864",
        False,
    ),
    "a shard that is not listed": (
        listing(lambda v: v | {"siblings": [e for e in v["siblings"] if e["rfilename"] != SHARD]}),
        "lacks the shard",
        False,
    ),
    "a shard that is cut": (lambda hub: hub.files.update({SHARD: hub.files[SHARD][:-1]}), "truncated", False),
    "a shard of nothing": (lambda hub: hub.files.update({SHARD: b""}), "at least 8", False),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTLASTED)
def test_outlasted(case: str, hub_here: Hub) -> None:
    OUTLASTED[case](hub_here)
    read_all(hub_here)
    assert hub_here.unused == 0, "the faults were met"


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, hub_here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, words, passes = REFUSED[case]
    monkeypatch.setenv(VARIABLE, str(LITTLE if case in IN_VAIN else PATIENCE))
    setting(hub_here)
    started = time.monotonic()
    with pytest.raises(ConvertError) as caught:
        read_all(hub_here)
    message = str(caught.value)
    assert re.search(words, message)
    assert "\n" not in message
    assert len(message) < 500
    assert "Signature" not in message
    assert isinstance(caught.value, Interrupted) is passes, "whether what is done is kept"
    assert time.monotonic() - started < 30


def test_the_storage_is_gone_for_a_while(hub_here: Hub) -> None:
    hub_here.fail("storage", SHARD, as_it_is, hub_here.outage(0.3, 500))
    read_all(hub_here)


def test_waits_that_the_server_asks_for_are_kept(hub_here: Hub) -> None:
    limited = {"RateLimit": '"api";r=0;t=1'}
    hub_here.fail("storage", SHARD, as_it_is, status(429, Retry_After="1"), lambda _: Answer(429, limited))
    started = time.monotonic()
    read_all(hub_here)
    assert time.monotonic() - started > 1


def test_an_expired_address_is_asked_for_once(hub_here: Hub) -> None:
    hub_here.lifetime = 20
    read_all(hub_here)
    used = len(hub_here.asked("storage", SHARD))
    assert len(hub_here.asked("hub", SHARD, "HEAD")) <= 2 + used // 20, "eight readers, one question"


def test_closing_ends_the_waiting(hub_here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "300")
    checkpoint = open_checkpoint(REPO, progress=False)
    hub_here.fail_always("storage", "*", status(503))
    closing = threading.Timer(0.3, checkpoint.close)
    closing.start()
    started = time.monotonic()
    with pytest.raises(Interrupted, match="called off"):
        checkpoint.shards[0].read(checkpoint.shards[0].source.size - 100, 100)
    assert time.monotonic() - started < 30
    closing.join()


def test_one_shard_that_fails_ends_the_waiting_for_others(hub_here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "300")
    hub_here.fail_always("hub", "model-00001-of-00003.safetensors", header("X-Linked-Size", "9"))
    hub_here.fail_always("hub", SHARD, status(503))
    started = time.monotonic()
    with pytest.raises(ConvertError, match="has 9 bytes now"):
        open_checkpoint(REPO, progress=False)
    assert time.monotonic() - started < 30


def test_weights_are_asked_for_at_the_commit_only(hub_here: Hub) -> None:
    hub_here.revisions = ("main", COMMIT)
    read_all(hub_here)
    hub_here.revisions = (COMMIT,)  # main has moved meanwhile
    hub_here.fail("api", "*", as_it_is)
    with pytest.raises(ConvertError, match="has no revision"):
        open_checkpoint(f"{REPO}@main", progress=False)
    with open_checkpoint(f"{REPO}@{COMMIT}", progress=False) as checkpoint:
        assert checkpoint.identity()[1]["commit"] == COMMIT
