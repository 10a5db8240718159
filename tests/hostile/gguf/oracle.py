"""What libllama itself does with a file: a process that forks for every file, so that an abort costs the fork alone.

Started as a program, it reads JSON on each line, a path and what to do with the file, and answers with a line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

SECONDS, BYTES = 5, 6 << 30  # of processor time and of address space that one file may use
TEXT = b"Hello, 12 worlds! <|im_end|>"


class Verdict(NamedTuple):
    """What became of a file: it `runs`, or libllama `refuses` it, `dies` or `hangs`; and its words for it."""

    outcome: str
    why: str


class Oracle:
    """The front of the process; a context manager."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},  # it forks, too, and takes a second
        )

    def ask(self, path: Path) -> Verdict:
        """Load a file, make a context, read a few tokens and draw from them."""
        return self._ask(path, "run")

    def read(self, path: Path, *, with_data: bool) -> Verdict:
        """Read a file with ggml's reader, and the tensors' bytes as well where wanted."""
        return self._ask(path, "data" if with_data else "header")

    def _ask(self, path: Path, what: str) -> Verdict:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([str(path), what]) + "\n")
        self.process.stdin.flush()
        return Verdict(*json.loads(self.process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def serve() -> None:
    """Answer until there are no more questions."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        path, what = json.loads(line)
        verdict = judge(lambda: use(llama_cpp, path) if what == "run" else read(path, what == "data"))  # noqa: B023
        print(json.dumps(verdict), file=answers, flush=True)


def judge(act: Callable[[], int]) -> Verdict:
    """Fork, let the child use the file, and see how it ends."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write_end, 2)
        limit()
        os._exit(act())
    os.close(write_end)
    with os.fdopen(read_end, "rb") as errors:
        said = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return Verdict("hangs", f"{SECONDS} s")
    if code < 0:
        asserted = [line.rpartition("llama.cpp/")[2] for line in said if ".cpp:" in line or ".c:" in line]
        return Verdict("dies", " ".join((signal.Signals(-code).name, *asserted[-1:])))
    return Verdict("runs", "") if code == 0 else Verdict("refuses", f"{code}: {said[0] if said else ''}")


def limit() -> None:
    """Bounds for the child; what a good file needs is far below."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Params(ctypes.Structure):
    """struct gguf_init_params (ggml/include/gguf.h)."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


def read(path: str, with_data: bool) -> int:
    """In the child: 0 where ggml's reader takes a file."""
    from llama_cpp import _ggml

    init = _ggml.libggml.gguf_init_from_file
    init.restype, init.argtypes = ctypes.c_void_p, [ctypes.c_char_p, _Params]
    context = ctypes.c_void_p()
    params = _Params(False, ctypes.addressof(context) if with_data else None)
    return 0 if init(os.fsencode(path), params) else 2


def use(llama: Any, path: str) -> int:
    """In the child: 0 where all went well, otherwise the step that libllama refused."""

    def log(level: int, text: bytes, _data: object) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR
            os.write(2, text)

    callback = llama.llama_log_callback(log)
    llama.llama_log_set(callback, None)
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    return 3 if not model else _run(llama, model)


def _run(llama: Any, model: Any) -> int:
    chosen = llama.llama_context_default_params()
    chosen.n_ctx, chosen.n_batch, chosen.n_ubatch, chosen.n_threads, chosen.n_threads_batch = 64, 32, 32, 1, 1
    context = llama.llama_init_from_model(model, chosen)
    if not context:
        return 4
    vocabulary = llama.llama_model_get_vocab(model)
    tokens = (llama.llama_token * 64)()
    count = llama.llama_tokenize(vocabulary, TEXT, len(TEXT), tokens, 64, True, True)
    if count < 1:
        return 5
    greedy, piece = llama.llama_sampler_init_greedy(), ctypes.create_string_buffer(256)
    for _ in range(3):
        if llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)):
            return 6
        tokens[0], count = llama.llama_sampler_sample(greedy, context, -1), 1
        llama.llama_token_to_piece(vocabulary, tokens[0], piece, len(piece), 0, True)
    return 0


if __name__ == "__main__":
    serve()
