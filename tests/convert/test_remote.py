"""Files of the Hub read by ranges, the Hub's cache, patience, and what is said of errors."""

from __future__ import annotations

import hashlib
import json
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from nemotron_gguf.convert.errors import ConvertError, Interrupted
from nemotron_gguf.convert.hub import client as hub_client
from nemotron_gguf.convert.hub import patience, remote
from nemotron_gguf.convert.hub.patience import VARIABLE, Effort, Failed, Patience
from nemotron_gguf.convert.hub.remote import Address, Listed, RemoteFile
from nemotron_gguf.convert.source.byte_source import LocalFile
from nemotron_gguf.convert.source.checkpoint import open_checkpoint
from nemotron_gguf.convert.source.safetensors import Shard
from nemotron_gguf.tests.hub_server import COMMIT, REPO, Hub, as_it_is, redirect, status

WEIGHTS = "model.safetensors"
QUICK = Patience(5.0, 5.0, 0.01, 0.1, 5.0)
CONFIG = Address(REPO, COMMIT, "config.json")


def opened(file: str = WEIGHTS) -> RemoteFile:
    return RemoteFile(Address(REPO, COMMIT, file), None, QUICK)


def test_ranges_are_the_file_s(hub_here: Hub) -> None:
    data, file = hub_here.files[WEIGHTS], opened()
    assert file.size == len(data)
    spans = [(n * 104_729 % len(data), n * 7_919 % 90_000) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda span: file.read(span[0], min(span[1], len(data) - span[0])), spans))
    assert found == [data[start : start + size] for start, size in spans]
    assert len(hub_here.asked("hub", WEIGHTS, "HEAD")) == 1


def test_nothing_is_asked_for_nothing_and_beyond_the_end(hub_here: Hub) -> None:
    file = opened()
    assert file.read(5, 0) == b""
    with pytest.raises(ConvertError, match="truncated"):
        file.read(file.size - 1, 2)
    assert not hub_here.asked("storage")


def test_what_identifies_a_file(hub_here: Hub) -> None:
    identity = opened().identity()
    etag = hashlib.sha256(hub_here.files[WEIGHTS]).hexdigest()
    assert identity == {"name": WEIGHTS, "size": len(hub_here.files[WEIGHTS]), "etag": etag, "commit": COMMIT}
    assert hub_here.storage_url not in json.dumps(identity)


def test_the_token_goes_to_the_hub_alone(hub_here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub_here.private, hub_here.token = True, "hf_secret"
    opened().read(0, 10)
    assert [r.authorization for r in hub_here.asked("storage")] == [""]
    assert opened("config.json").read(0, 5) == hub_here.files["config.json"][:5], "a small file is the Hub's own"
    hub_here.fail("hub", "config.json", as_it_is, as_it_is, redirect(hub_here.sign(WEIGHTS)))
    assert opened("config.json").read(0, 5) == hub_here.files["config.json"][:5], "another file's bytes are not taken"
    assert [r.authorization for r in hub_here.asked("storage")] == ["", ""], "nor after a redirect of a range"


@pytest.mark.parametrize(
    ("hub", "storage", "allowed"),
    [
        ("https://huggingface.co", "https://cdn.example", True),
        ("https://huggingface.co", "http://cdn.example", False),
        ("https://huggingface.co", "ftp://cdn.example", False),
        ("http://mirror.local", "http://cdn.local", True),
        ("http://mirror.local", "file:///etc/passwd", False),
    ],
)
def test_an_encrypted_way_stays_encrypted(
    hub: str, storage: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "endpoint", lambda: hub)
    assert remote._is_safe(storage) is allowed


def test_origins() -> None:
    assert remote.origin("https://huggingface.co/a") == remote.origin("https://HuggingFace.co:443/b?c")
    assert remote.origin("https://huggingface.co") != remote.origin("http://huggingface.co")
    assert remote.origin("https://huggingface.co") != remote.origin("https://huggingface.co.evil.example")


def test_a_long_header_takes_two_requests(hub_here: Hub) -> None:
    entries = {f"{'x' * 200}{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(6000)}
    raw = json.dumps(entries).encode()
    assert len(raw) > 1 << 20
    hub_here.files[WEIGHTS] = struct.pack("<Q", len(raw)) + raw
    assert len(Shard(opened()).entries) == 6000
    assert len(hub_here.asked("storage", WEIGHTS)) == 2


def test_a_header_of_a_claimed_length_is_not_asked_for(hub_here: Hub) -> None:
    hub_here.files[WEIGHTS] = struct.pack("<Q", 1 << 40) + b"{}"
    with pytest.raises(ConvertError, match="claims 1099511627776 bytes"):
        Shard(opened())
    assert len(hub_here.asked("storage", WEIGHTS)) == 1


def test_the_cache_is_used_whichever_commit_brought_it(hub_here: Hub, tmp_path: Path) -> None:
    with open_checkpoint(REPO, progress=False) as checkpoint:
        over_the_network = checkpoint.identity()
        assert checkpoint.in_flight == remote.IN_FLIGHT
    blobs = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.joinpath(str(over_the_network[0]["etag"])).write_bytes(hub_here.files[WEIGHTS])
    asked = len(hub_here.asked("hub", WEIGHTS, "HEAD"))
    with open_checkpoint(REPO, progress=False) as checkpoint:
        assert isinstance(checkpoint.shards[0].source, LocalFile)
        assert checkpoint.identity() == over_the_network, "a run goes on, wherever its source lies now"
    assert len(hub_here.asked("hub", WEIGHTS, "HEAD")) == asked


def test_a_cached_file_of_another_size_is_not_used(hub_here: Hub, tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    blobs.joinpath(hub_here.etag(WEIGHTS)).write_bytes(hub_here.files[WEIGHTS][:-1])
    with open_checkpoint(REPO, progress=False) as checkpoint:
        assert isinstance(checkpoint.shards[0].source, RemoteFile)


def test_without_a_hub_the_cache_must_be_complete(
    hub_here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_checkpoint(REPO, progress=False).close()
    monkeypatch.setenv(VARIABLE, "0.3")
    hub_here.fail_always("api", "*", status(503))
    with pytest.raises(Interrupted, match=r"reached .the Hub answered 503. and .* is not complete"):
        open_checkpoint(REPO, progress=False)
    snapshot = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "snapshots" / COMMIT
    snapshot.joinpath(WEIGHTS).write_bytes(hub_here.files[WEIGHTS])
    monkeypatch.setenv(VARIABLE, "300")
    started = time.monotonic()
    with open_checkpoint(REPO, progress=False) as checkpoint:
        assert checkpoint.shards[0].read(0, 8) == hub_here.files[WEIGHTS][:8]
    assert time.monotonic() - started < 5, "it does not wait for a Hub that is not needed"


def test_a_checkpoint_without_weights(hub_here: Hub) -> None:
    hub_here.files["pytorch_model.bin"] = hub_here.files.pop(WEIGHTS)
    with pytest.raises(ConvertError, match=r"in pytorch_model\.bin, which could run code"):
        open_checkpoint(REPO, progress=False)


@pytest.mark.parametrize(("text", "budget"), [("", 300), ("10", 10), ("0", 0), ("900", 900)])
def test_patience_from_the_environment(text: str, budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    found = Patience.from_environment()
    assert found.budget == budget
    assert found.opening <= budget
    assert found.longest <= 30


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1e99"])
def test_patience_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConvertError, match="expected seconds"):
        Patience.from_environment()


class Clock:
    """A clock that waiting moves."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False

    def is_set(self) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def effort(clock: Clock, budget: float = 300.0) -> Effort:
    return Effort("a file", Patience(), budget, clock)  # type: ignore[arg-type]


def failures(work: Effort, failure: Failed) -> str:
    with pytest.raises(ConvertError) as caught:
        for _ in range(10_000):
            work.failed(failure)
    return str(caught.value)


def test_waits_grow_until_the_time_is_up(clock: Clock) -> None:
    message = failures(effort(clock), Failed("the storage answered 503"))
    assert "nothing came for 300 seconds, at last the storage answered 503" in message
    assert 240 < clock.now <= 300
    assert all(0.25 * 2.0**n <= wait <= 0.5 * 2.0**n for n, wait in enumerate(clock.waits[:6]))
    assert max(clock.waits) <= 30
    assert len({round(wait / 30, 6) for wait in clock.waits[6:]}) > 1, "jitter"


def test_progress_starts_the_time_anew(clock: Clock) -> None:
    work = effort(clock)
    for _ in range(50):
        for _ in range(6):
            work.failed(Failed("cut"))
        work.progressed()
    assert clock.now > 600


def test_a_server_s_wait_is_not_held_against_it_but_once(clock: Clock) -> None:
    failures(effort(clock), Failed("the storage answered 429", wait=200.0))
    assert clock.waits[0] >= 200
    assert 300 < clock.now <= 600


def test_a_wait_is_never_longer_than_the_whole_time(clock: Clock) -> None:
    failures(effort(clock), Failed("429", wait=1e9))
    assert max(clock.waits) <= 300


def test_work_that_is_called_off_waits_no_more() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted, match="called off"):
        Effort("a file", Patience(), 300, stop).failed(Failed("503"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 30}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"api";r=12;t=55'}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for(headers: Mapping[str, str], seconds: float | None) -> None:
    assert hub_client.status_failure(429, headers, "the Hub").wait == seconds


def test_a_certificate_that_is_not_accepted_is_not_waited_for(hub_here: Hub) -> None:
    library = hub_client.http_library()
    plain, untrusted = library.ConnectError("refused"), library.ConnectError("failed")
    untrusted.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert hub_client.passing(plain) is not None
    assert hub_client.passing(untrusted) is None
    assert "certificate" in str(hub_client.refusal(untrusted, REPO, None))
    assert hub_here.url in str(hub_client.refusal(untrusted, REPO, None))


def test_a_client_that_was_closed_is_replaced(hub_here: Hub) -> None:
    from huggingface_hub import close_session, get_session

    file, data = RemoteFile(Address(REPO, COMMIT, WEIGHTS), None, replace(QUICK, opening=1.0)), hub_here.files[WEIGHTS]
    get_session().close()  # as by another user of the one client
    with pytest.raises(Interrupted, match="the client was closed"):
        file.read(0, 10)
    closing = threading.Timer(0.2, close_session)
    closing.start()
    assert file.read(0, 10) == data[:10]
    closing.join()


def test_words_of_others_carry_no_address() -> None:
    said = hub_client.plain("error for url 'https://cas.example/x?Signature=abc'\n\nRequest  id")
    assert said == "error for url an address Request id"


def test_the_listing_is_held_against_the_file(hub_here: Hub) -> None:
    known = Listed(len(hub_here.files["config.json"]), hub_here.etag("config.json"))
    assert RemoteFile(CONFIG, known, QUICK).size == known.size
    with pytest.raises(ConvertError, match="it changed"):
        RemoteFile(CONFIG, Listed(known.size, "0" * 40), QUICK)
    mirrored = Listed(known.size, "0" * 64)  # another kind of hash says nothing about this one
    assert RemoteFile(CONFIG, mirrored, QUICK).identity()["etag"] == known.etag
