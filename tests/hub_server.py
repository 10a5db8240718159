"""A rehearsal of the Hub on this machine: its listing, its redirects to signed addresses that expire, and its failures.

Two servers, as the Hub and its storage are two: the token must reach the one only. Faults are functions from the
answer that would be right to the one that is sent, and are used up in the order in which requests come.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/Nemotron-Demo"


@dataclass(frozen=True)
class Request:
    """What was asked: `place` is api, hub (a file's address) or storage, `range` the Range header."""

    place: str
    method: str
    name: str
    range: str = ""
    authorization: str = ""
    sent: int = 0


@dataclass(frozen=True)
class Answer:
    """What is sent: `limit` bytes of the body and then the end, each `piece` bytes after `pause` seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    limit: int | None = None
    piece: int = 1 << 20
    pause: float = 0.0
    delay: float = 0.0
    reset: bool = False
    length: int | None = None
    raw: bytes | None = None


Fault = Callable[[Answer], Answer]


def status(code: int, **headers: str) -> Fault:
    """Another status, and headers (`_` for `-`)."""
    return lambda _: Answer(code, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}")


def cut(count: int, reset: bool = False) -> Fault:
    """The connection ends, or is reset, after so many bytes of the body."""
    return lambda answer: replace(answer, limit=count, reset=reset)


def header(name: str, value: str | None) -> Fault:
    """A header changed, or left out."""

    def fault(answer: Answer) -> Answer:
        kept = {key: text for key, text in answer.headers.items() if key.lower() != name.lower()}
        return replace(answer, headers=kept if value is None else kept | {name: value})

    return fault


def short(count: int) -> Fault:
    """Fewer bytes than asked for, and said so: Content-Range and Content-Length are right."""

    def fault(answer: Answer) -> Answer:
        first, last, total = re.findall(r"\d+", answer.headers["Content-Range"])
        last = str(min(int(last), int(first) + count - 1))
        changed = header("Content-Range", f"bytes {first}-{last}/{total}")(answer)
        return replace(changed, body=answer.body[:count])

    return fault


def length(count: int) -> Fault:
    """A Content-Length that is not the body's."""
    return lambda answer: replace(answer, length=count)


def chunked_short(count: int) -> Fault:
    """The body ends early and nothing says how long it should be: the end of the connection is the end of the body."""
    return lambda answer: replace(answer, length=-1, limit=count)


def more(data: bytes) -> Fault:
    """Bytes after those that were asked for, with a Content-Length to match."""
    return lambda answer: replace(answer, body=answer.body + data)


def slow(piece: int, pause: float) -> Fault:
    """A few bytes at a time."""
    return lambda answer: replace(answer, piece=piece, pause=pause)


def silent(seconds: float) -> Fault:
    """Nothing for a while, then the answer."""
    return lambda answer: replace(answer, delay=seconds)


def nonsense(data: bytes) -> Fault:
    """Bytes that are no HTTP."""
    return lambda answer: replace(answer, raw=data)


def redirect(location: str) -> Fault:
    """Elsewhere."""
    return lambda _: Answer(302, {"Location": location})


def as_it_is(answer: Answer) -> Answer:
    """No fault: the place of one in a sequence."""
    return answer


@lru_cache(maxsize=256)
def digest(kind: str, data: bytes) -> str:
    """Taken once of each file."""
    return hashlib.new(kind, data).hexdigest()


@dataclass
class Hub:
    """What is offered and how, what goes wrong, and what was asked for.

    `large` says which files lie in the storage; `lifetime` is how many requests a signed address is good for, and
    `refused` the status that tells that it is not any more. `listed` makes changes to the listing; `unused` are the
    faults that nobody has met yet.
    """

    files: dict[str, bytes]
    large: Callable[[str], bool] = lambda name: name.endswith(".safetensors")
    gated: bool = False
    private: bool = False
    token: str | None = None
    xet: bool = False
    lifetime: float = float("inf")
    refused: int = 403
    listed: Callable[[dict[str, Any]], Any] = lambda listing: listing
    revisions: tuple[str, ...] = ("main", COMMIT)
    url: str = ""
    storage_url: str = ""
    requests: list[Request] = field(default_factory=list)
    unused: int = 0
    servers: list[Server] = field(default_factory=list)
    _faults: defaultdict[tuple[str, str], list[Iterator[Fault]]] = field(default_factory=lambda: defaultdict(list))
    _signed: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def fail(self, place: str, name: str, *faults: Fault) -> None:
        """What becomes of the next answers about a file (`*`: any) from a place, one fault each."""
        self.unused += len(faults)
        self._faults[place, name].append(map(self._used, faults))

    def _used(self, fault: Fault) -> Fault:
        self.unused -= 1
        return fault

    def fail_always(self, place: str, name: str, fault: Fault, after: int = 0) -> None:
        """The same of all answers but the first `after`."""
        faults = itertools.chain(itertools.repeat(as_it_is, after), itertools.repeat(fault))
        self._faults[place, name].append(faults)

    def forgive(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()
            self.unused = 0

    def outage(self, seconds: float, count: int) -> Fault:
        """The connection ends after so many bytes, and the storage takes no new ones for a while."""
        server = self.servers[1]

        def gone() -> None:
            server.down()
            time.sleep(seconds)
            server.up()

        def fault(answer: Answer) -> Answer:
            threading.Thread(target=gone).start()
            time.sleep(0.05)
            return replace(answer, limit=count)

        return fault

    def asked(self, place: str, name: str = "*", method: str = "GET") -> list[Request]:
        """The requests of a kind so far."""
        with self._lock:
            return [r for r in self.requests if (r.place, r.method) == (place, method) and name in ("*", r.name)]

    def answer(self, request: Request, right: Answer) -> Answer:
        """Note a request, and the answer that it gets."""
        with self._lock:
            fault = self._next_fault(request)
            answer = fault(right) if fault else right
            sent = len(answer.body) if answer.limit is None else min(answer.limit, len(answer.body))
            self.requests.append(replace(request, sent=sent if request.method == "GET" else 0))
            return answer

    def _next_fault(self, request: Request) -> Fault | None:
        for key in ((request.place, request.name), (request.place, "*")):
            while self._faults[key]:
                fault = next(self._faults[key][0], None)
                if fault is not None:
                    return fault
                self._faults[key].pop(0)
        return None

    def etag(self, name: str) -> str:
        """As the Hub has it: SHA-256 of large files, git's id of others."""
        data = self.files[name]
        if self.large(name):
            return digest("sha256", data)
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def listing(self) -> dict[str, Any]:
        """As /api/models/ORG/NAME?blobs=true answers."""
        siblings: list[dict[str, Any]] = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if self.large(name):
                entry["lfs"] = {"sha256": self.etag(name), "size": len(data), "pointerSize": 134}
            else:
                entry["blobId"] = self.etag(name)
            siblings.append(entry)
        return {"id": REPO, "sha": COMMIT, "gated": "auto" if self.gated else False, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        """As /api/models/ORG/NAME/tree answers."""
        return [
            {"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"]}
            | ({"lfs": {"oid": s["lfs"]["sha256"], "size": s["size"], "pointerSize": 134}} if "lfs" in s else {})
            for s in self.listing()["siblings"]
        ]

    def sign(self, name: str) -> str:
        """A signed address of a file in the storage."""
        with self._lock:
            signature = hashlib.sha1(str(next(self._numbers)).encode()).hexdigest()
            self._signed[signature] = self.lifetime
        bridge = "xet-bridge-us" if self.xet else "repos"
        return f"{self.storage_url}/{bridge}/{self.etag(name)}/{name}?Expires=1&Signature={signature}"

    def use(self, signature: str) -> bool:
        """Whether an address is still good; it is used by this."""
        with self._lock:
            left = self._signed.get(signature, 0)
            self._signed[signature] = left - 1
            return left > 0


def hub_answer(hub: Hub, request: Request, path: str) -> Answer:
    """What the Hub rightly answers."""
    allowed = hub.token is not None and request.authorization == f"Bearer {hub.token}"
    if hub.private and not allowed:
        return Answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
    if not path.startswith((f"/api/models/{REPO}", f"/{REPO}/", f"/api/resolve-cache/models/{REPO}/")):
        return Answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
    if path.startswith("/api/models/"):
        revision = unquote(path.partition("/revision/")[2] or path.partition("/tree/")[2]) or "main"
        if revision not in hub.revisions:
            return Answer(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        value = hub.tree() if "/tree/" in path else hub.listed(hub.listing())
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())
    if hub.gated and not allowed:
        said = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
        return Answer(403 if request.authorization else 401, said)
    return file_answer(hub, request, path)


def file_answer(hub: Hub, request: Request, path: str) -> Answer:
    """Small files come from the Hub after a redirect of its own, large ones after one to the storage."""
    cached = path.startswith("/api/resolve-cache/")
    revision, _, name = path.partition(f"{REPO}/")[2].removeprefix("resolve/").partition("/")
    if unquote(revision) not in hub.revisions:
        return Answer(404, {"X-Error-Code": "RevisionNotFound"})
    if name not in hub.files:
        return Answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
    data, etag = hub.files[name], hub.etag(name)
    about = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", "ETag": f'"{etag}"'}
    if cached:
        return range_answer(request, data, about)
    if not hub.large(name):
        target = f"/api/resolve-cache/models/{REPO}/{COMMIT}/{name}?etag=%22{etag}%22"
        return Answer(307, {**about, "Location": target})
    about |= {
        "ETag": f'"{digest("md5", data)}"',
        "X-Linked-ETag": f'"{etag}"',
        "X-Linked-Size": str(len(data)),
    }
    if hub.xet:
        about["X-Xet-Hash"] = hashlib.sha256(b"xet" + data).hexdigest()
        token = f"{hub.url}/api/models/{REPO}/xet-read-token/{COMMIT}"
        about["Link"] = f'<{token}>; rel="xet-auth", <{hub.url}/xet>; rel="xet-reconstruction-info"'
    return Answer(302, {**about, "Location": hub.sign(name)})


def storage_answer(hub: Hub, request: Request, query: Mapping[str, list[str]]) -> Answer:
    """What the storage rightly answers; its ETag is its own."""
    if not hub.use(query.get("Signature", [""])[0]):
        return Answer(hub.refused, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>")
    data = hub.files[request.name]
    return range_answer(request, data, {"ETag": f'"{digest("md5", data)}-3"', "Accept-Ranges": "bytes"})


def range_answer(request: Request, data: bytes, headers: Mapping[str, str]) -> Answer:
    """A file, or the part of it that Range asks for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.range)
    if match is None:
        return Answer(200, headers, data)
    first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    if first > last:
        return Answer(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
    return Answer(206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}, data[first : last + 1])


def handler(hub: Hub, in_storage: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that has read enough
                super().handle()

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path, said = unquote(parts.path), self.headers
            place = "storage" if in_storage else "api" if path.startswith("/api/models/") else "hub"
            name = "" if place == "api" else path.rpartition("/")[2]
            asked = Request(place, self.command, name, said.get("Range", ""), said.get("Authorization", ""))
            right = storage_answer(hub, asked, parse_qs(parts.query)) if in_storage else hub_answer(hub, asked, path)
            try:
                self.send(hub.answer(asked, right))
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def send(self, answer: Answer) -> None:
            time.sleep(answer.delay)
            if answer.raw is not None:
                self.close_connection = True
                self.wfile.write(answer.raw)
                return
            self.send_response(answer.status)
            count = len(answer.body) if answer.length is None else answer.length
            for name, value in {**answer.headers, **({"Content-Length": str(count)} if count >= 0 else {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                body = answer.body[: answer.limit]
                for start in range(0, len(body), answer.piece):
                    time.sleep(answer.pause)
                    self.wfile.write(body[start : start + answer.piece])
                if answer.limit is not None or answer.length is not None:
                    self.close_connection = True
            if answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    return Handler


class Server:
    """One of the two servers; it can go down and come back at the same port."""

    def __init__(self, kind: type[BaseHTTPRequestHandler]) -> None:
        self.kind, self.port = kind, 0
        self.up()

    def up(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self.kind)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def down(self) -> None:
        """Refuse connections; those that are open stay until they are used up."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def serve(files: Mapping[str, bytes] | Iterable[Path]) -> Iterator[Hub]:
    """A Hub with one repository."""
    held = dict(files) if isinstance(files, Mapping) else {path.name: path.read_bytes() for path in files}
    hub = Hub(held)
    hub.servers = [Server(handler(hub, False)), Server(handler(hub, True))]
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.port}" for server in hub.servers)
    try:
        yield hub
    finally:
        for server in hub.servers:
            server.down()
