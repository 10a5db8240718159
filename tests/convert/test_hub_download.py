"""A repository of the Hub, rehearsed: a server on this machine that answers as the Hub does, reached by HF_ENDPOINT."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from nemotron_gguf.models.demo import CHECKPOINT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/Nemotron-Demo"


@dataclass
class Hub:
    """What the server offers and what it was asked for."""

    files: dict[str, bytes]
    requests: list[str] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    cut: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def downloads(self, suffix: str) -> int:
        return sum(line.startswith("GET") and line.endswith(suffix) for line in self.requests)


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if hub.refuse:
                return self.send(hub.refuse[0], b"{}", {"X-Error-Code": hub.refuse[1]}, body)
            if path.startswith(f"/api/models/{REPO}"):
                return self.info(path, body)
            revision, _, name = path.removeprefix(f"/{REPO}/resolve/").partition("/")
            if revision not in ("main", COMMIT) or name not in hub.files:
                return self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            return self.file(name, body)

        def info(self, path: str, body: bool) -> None:
            revision = path.partition("/revision/")[2]
            if revision not in ("", "main", COMMIT):
                return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            files = [{"rfilename": name, "size": len(data)} for name, data in hub.files.items()]
            if "/tree/" in path:
                listed = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in hub.files.items()
                ]
                return self.send(200, json.dumps(listed).encode(), {}, body)
            return self.send(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": files}).encode(), {}, body)

        def file(self, name: str, body: bool) -> None:
            data, start = hub.files[name], 0
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if (wanted := self.headers.get("Range", "")).startswith("bytes="):
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            limit = hub.cut.pop(name, None) if body else None
            self.send(206 if start else 200, data[start:], headers, body, limit)
            if limit is not None:
                self.close_connection = True

        def send(self, status: int, data: bytes, headers: dict[str, str], body: bool, limit: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data[:limit])

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    offered = Hub({path.name: path.read_bytes() for path in CHECKPOINT.iterdir() if path.is_file()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(offered))
    offered.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield offered
    server.shutdown()
    server.server_close()
    thread.join()


def nemotron(hub_url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the Hub's client reads its environment when it is imported."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "nemotron_gguf.ui.cli", *arguments], capture_output=True, encoding="utf-8", env=env
    )


def test_a_repository_becomes_the_same_file_as_its_folder(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    local = nemotron(hub.url, home, "convert", str(CHECKPOINT), str(tmp_path / "local.gguf"))
    assert local.returncode == 0, local.stderr
    assert not hub.requests
    remote = nemotron(hub.url, home, "convert", REPO, str(tmp_path / "remote.gguf"))
    assert remote.returncode == 0, remote.stderr
    assert hub.downloads("model.safetensors") == 1
    again = nemotron(hub.url, home, "build", f"{REPO}@main", "--type", "Q8_0", "--out-dir", str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert hub.downloads("model.safetensors") == 1, "a finished file is not fetched twice"

    from nemotron_gguf.models.gguf_reader import read_gguf

    one, two = read_gguf(tmp_path / "local.gguf"), read_gguf(tmp_path / "remote.gguf")
    assert [t.name for t in one.tensors] == [t.name for t in two.tensors]
    first, last = one.tensors[0], one.tensors[-1]
    data = [f.path.read_bytes()[f.tensors[0].offset :] for f in (one, two)]
    assert len(data[0]) == last.offset - first.offset + last.nbytes + (-last.nbytes % 32)
    assert data[0] == data[1]


def test_a_cut_connection_is_resumed_or_fails_in_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.cut["model.safetensors"] = 100_000
    first = nemotron(hub.url, tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf"))
    if first.returncode:
        assert "Traceback" not in first.stderr
        assert not list(tmp_path.glob("*.gguf"))
    second = nemotron(hub.url, tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf"), "--force")
    assert second.returncode == 0, second.stderr
    straight = nemotron(hub.url, tmp_path / "home", "convert", str(CHECKPOINT), str(tmp_path / "b.gguf"))
    assert straight.returncode == 0
    assert (tmp_path / "a.gguf").read_bytes()[-1_000_000:] == (tmp_path / "b.gguf").read_bytes()[-1_000_000:]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(403, "GatedRepo", "accept its licence"), (404, "RepoNotFound", "no repository"), (500, "", "files are kept")],
)
def test_a_refusal_is_one_line(hub: Hub, tmp_path: Path, status: int, code: str, words: str) -> None:
    hub.refuse = (status, code)
    result = nemotron(hub.url, tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf"))
    assert result.returncode == 1
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.gguf"))


def test_a_revision_that_is_none(hub: Hub, tmp_path: Path) -> None:
    result = nemotron(hub.url, tmp_path / "home", "convert", f"{REPO}@v9", str(tmp_path / "a.gguf"))
    assert result.returncode == 1
    assert "has no revision v9" in result.stderr


def test_no_hub_at_all(tmp_path: Path) -> None:
    result = nemotron("http://127.0.0.1:9", tmp_path / "home", "convert", REPO, str(tmp_path / "a.gguf"))
    assert result.returncode == 1
    assert "could not be reached" in result.stderr.splitlines()[-1]
