"""The whole way at full scale: a 30B checkpoint of 63 GB, read over HTTP and built in one pass, once.

    python bench/rehearsal.py [--type Q4_K_M] [--out-dir DIR] [--layers MEM*E] [--keep]

A server on this machine answers as the Hugging Face Hub does (listing, redirects to signed addresses, ranges) for a
repository with the names and shapes of Nemotron 3 Nano 30B-A3B; the weights are made up as they are asked for, so no
disk holds them. `nemotron build` runs in a process of its own; printed are its seconds, its peak of resident memory
(mapped files count), the bytes read and written, and what llama.cpp says when it opens the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from nemotron_gguf.convert.cast import to_bf16
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf

if TYPE_CHECKING:
    from nemotron_gguf.bench.pipeline import shapes
else:
    from pipeline import shapes  # beside this script

REPO, COMMIT = "rehearsal/Nemotron-3-Nano-30B-A3B-BF16", "0123456789abcdef0123456789abcdef01234567"
LAYERS = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
VOCAB, N_EXPERTS = 131072, 128
N_SHARDS = 13
BLOCK = 64 << 20  # bytes of noise that repeat


@dataclass(frozen=True)
class Made:
    """A file of the repository: `head` as it is, then `body` bytes of noise."""

    head: bytes
    body: int = 0

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return len(self.head) + self.body

    @property
    def etag(self) -> str:
        """What names the contents."""
        return hashlib.sha256(self.head).hexdigest()


def repository(layers: str) -> dict[str, Made]:
    """The files: the demo's small ones, and shards with the 30B's shapes."""
    files = {
        path.name: Made(path.read_bytes())
        for path in CHECKPOINT.iterdir()
        if path.is_file() and path.suffix != ".safetensors"
    }
    config = json.loads(files["config.json"].head)
    config |= {
        "hybrid_override_pattern": layers, "num_hidden_layers": len(layers), "hidden_size": 2688, "vocab_size": VOCAB,
        "n_routed_experts": N_EXPERTS, "num_experts_per_tok": 6, "head_dim": 128, "moe_intermediate_size": 1856,
        "moe_shared_expert_intermediate_size": 3712, "intermediate_size": 1856, "mamba_num_heads": 64,
        "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128, "num_attention_heads": 32, "num_key_value_heads": 2,
        "max_position_embeddings": 262144,
    }  # fmt: skip
    files["config.json"] = Made(json.dumps(config).encode())
    tensors = list(shapes(layers, N_EXPERTS, VOCAB))
    total = sum(2 * prod(shape) for _, shape in tensors)
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, shape in tensors:
        if size > total / N_SHARDS:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += 2 * prod(shape)
    weight_map: dict[str, str] = {}
    for number, held in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {name: file for name, _ in held}
        files[file] = shard(held)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    files["model.safetensors.index.json"] = Made(json.dumps(index).encode())
    return files


def shard(held: list[tuple[str, tuple[int, ...]]]) -> Made:
    """A safetensors file of BF16 tensors."""
    header, end = {}, 0
    for name, shape in held:
        size = 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return Made(struct.pack("<Q", len(raw)) + raw, end)


def pieces(made: Made, noise: memoryview, start: int, stop: int) -> Iterator[memoryview]:
    """Bytes `start` up to `stop` of a file."""
    head = len(made.head)
    if start < head:
        yield memoryview(made.head)[start : min(stop, head)]
        start = head
    while start < stop:
        place = (start - head) % len(noise)
        piece = noise[place : place + stop - start]
        yield piece
        start += len(piece)


def handler(files: dict[str, Made], noise: memoryview, counted: Any) -> type[BaseHTTPRequestHandler]:
    """What answers one connection; `counted` adds up the bytes of weights that were sent."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def do_HEAD(self) -> None:
            """As GET, without the body."""
            self.do_GET()

        def do_GET(self) -> None:
            """A listing, a redirect, or bytes of a file."""
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                return self.listing(path)
            signed = path.startswith("/signed/")
            name = path.rpartition("/")[2]
            if name not in files:
                return self.answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
            made = files[name]
            about = {"ETag": f'"{made.etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if made.body and not signed:
                about |= {"X-Linked-Size": str(made.size), "X-Linked-ETag": f'"{made.etag}"'}
                return self.answer(302, about | {"Location": f"/signed/{name}?Expires={int(time.time()) + 3600}"}, b"")
            return self.file(made, about)

        def listing(self, path: str) -> None:
            if "/tree/" in path:
                rows = [{"type": "file", "path": n, "size": m.size, "oid": m.etag[:40]}
                        | ({"lfs": {"oid": m.etag, "size": m.size, "pointerSize": 134}} if m.body else {})
                        for n, m in files.items()]  # fmt: skip
                return self.answer(200, {}, json.dumps(rows).encode())
            siblings = [{"rfilename": name, "size": made.size} for name, made in files.items()]
            return self.answer(200, {}, json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode())

        def file(self, made: Made, about: dict[str, str]) -> None:
            start, stop, status = 0, made.size, 200
            if wanted := self.headers.get("Range", "").removeprefix("bytes="):
                first, _, last = wanted.partition("-")
                start, stop, status = int(first), min(int(last or made.size) + 1, made.size), 206
                about["Content-Range"] = f"bytes {start}-{stop - 1}/{made.size}"
            self.head(status, about, stop - start)
            if self.command == "GET":
                for piece in pieces(made, noise, start, stop):
                    self.connection.sendall(piece)
                if made.body:
                    with counted.get_lock():
                        counted.value += stop - start

        def head(self, status: int, headers: dict[str, str], length: int) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.head(status, headers, len(body))
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def serve(layers: str, port: Any, counted: Any) -> None:
    """Serve until killed; tells its port."""
    rng = np.random.default_rng(0)
    noise = bytearray()
    while len(noise) < BLOCK:
        noise += to_bf16(rng.standard_normal((1, 1 << 20), dtype=np.float32) * np.float32(0.02)).tobytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(repository(layers), memoryview(noise), counted))
    server.daemon_threads = True
    port.value = server.server_port
    server.serve_forever()


def build(url: str, out: Path, kind: str, home: Path) -> tuple[float, int]:
    """Run `nemotron build`; seconds and bytes of resident memory at the peak."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "build", REPO, "--type", kind, "--pad", "none"]
    command += ["--out-dir", str(out)]
    started = time.monotonic()
    with subprocess.Popen(command, env=env) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"build failed with status {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def opened(path: Path) -> str:
    """What llama.cpp makes of the file: mapped into memory, and one token decoded with it."""
    import llama_cpp

    model = llama_cpp.Llama(str(path), n_ctx=64, n_gpu_layers=0, verbose=False)
    started = time.monotonic()
    model.eval([1])
    logits = np.array(model.eval_logits[-1], dtype=np.float32)
    if not np.isfinite(logits).all():
        sys.exit(f"llama.cpp computes no numbers with {path}")
    name = model.metadata["general.architecture"]
    return f"{name}, {len(logits)} finite logits for a token, {time.monotonic() - started:.1f} s"


def main() -> None:
    """Serve, build, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--layers", default=LAYERS)
    parser.add_argument("--out-dir", type=Path, help="where to write; a temporary folder if not given")
    chosen = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    port, counted = spawn.Value("i", 0), spawn.Value("q", 0)
    server = spawn.Process(target=serve, args=(chosen.layers, port, counted), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.1)
    with TemporaryDirectory(prefix="nemotron-rehearsal-", dir=chosen.out_dir) as name:
        folder = Path(name)
        seconds, peak = build(f"http://127.0.0.1:{port.value}", folder / "out", chosen.type, folder / "home")
        path = next((folder / "out").glob("*.gguf"))
        size, tensors = path.stat().st_size, len(read_gguf(path).tensors)
        print(
            f"{counted.value / 1e9:.3f} GB of weights read, {size / 1e9:.3f} GB written in {tensors} tensors",
            flush=True,
        )
        rate = counted.value / seconds / 1e6
        print(f"{seconds:.0f} s, {rate:.0f} MB/s of checkpoint; {peak / 2**20:.0f} MiB at the peak", flush=True)
        print(f"llama.cpp: {opened(path)}", flush=True)
    server.terminate()


if __name__ == "__main__":
    main()
