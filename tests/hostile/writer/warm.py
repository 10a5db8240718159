"""A process that is ready to write and forks for every run, so that hundreds of kills take seconds.

Run as a script: it reads a request a line, as JSON (see `Request`), and answers with a line of JSON each.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from nemotron_gguf.convert import FilePlan, Interrupted, open_checkpoint, plan_conversion
from nemotron_gguf.convert.cast import Cast, to_bf16
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import Rows, TensorPlan
from nemotron_gguf.convert.writer import chunks, run
from nemotron_gguf.convert.writer.journal import Checksums
from nemotron_gguf.convert.writer.read_back import Count, ReadBack
from nemotron_gguf.convert.writer.split import split_path, split_plan
from nemotron_gguf.convert.writer.write import Output, WriteOptions, write_files
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import string
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_quantization
from nemotron_gguf.quant.encode import Quantize

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.faults import Disk, Fault
else:
    from faults import Disk, Fault  # the folder of a script is on its path

WIDTH = 256


@dataclass(frozen=True)
class Request:
    """One run: which job, where, how, and what befalls it.

    A fault is one of `faults.Fault`; `kill_after` seconds the process gets `signal`. `trace` is a file for the calls.
    `source`, `recipe` and `version` are what a journal is bound to; without a source there is none. `flip` names a file
    and a byte of it, in which a bit changes after all is written and before it is read back.
    """

    job: str
    folder: str
    fault: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    kill_after: float | None = None
    signal: int = signal.SIGKILL
    trace: str | None = None
    source: str | None = "the same"
    recipe: str = "test"
    version: str | None = None
    flip: tuple[str, int] | None = None
    read_seconds: float = 0.0


@dataclass(eq=False)
class Random:
    """Rows of BF16 made of a seed."""

    n_rows: int
    seed: int
    n_per_row: int = WIDTH
    type: GGMLType = GGMLType.BF16
    seconds: float = 0.0
    reads: int = 0

    def read(self, first: int, last: int) -> Rows:
        self.reads += 1
        time.sleep(self.seconds)
        values = np.random.default_rng(self.seed).standard_normal((self.n_rows, self.n_per_row), dtype=np.float32)
        return to_bf16(values[first:last]).view(np.uint8)


def tiny(request: Request) -> list[Output]:
    """Two files of the same tensors in other types and another order; one tensor leaves a gap behind it."""
    more = 0 if request.recipe == "test" else 100  # another recipe's weights are others
    stack = (Random(12, 1 + more), Random(3, 2 + more), Random(25, 3 + more))
    sources = {"stack": stack, "one": (Random(1, 4 + more, 33),), "x": (Random(24, 5 + more),)}
    for source in (source for stack in sources.values() for source in stack):
        source.seconds = request.read_seconds

    def plan(kind: GGMLType, names: str) -> FilePlan:
        tensors = [
            TensorPlan("stack", (2, 20, WIDTH), sources["stack"], encoder("stack", kind, 20)),
            TensorPlan("one", (1, 33), sources["one"], Cast(GGMLType.F32), transform=np.exp),
            TensorPlan("x", (24, WIDTH), sources["x"], encoder("x", kind, 24)),
        ]
        order = sorted(tensors, key=lambda tensor: names.index(tensor.name[0]))
        return FilePlan({"general.architecture": string(request.recipe)}, tuple(order))

    folder = Path(request.folder)
    return [
        Output(plan(GGMLType.Q4_K, "sox"), folder / "a.gguf"),
        Output(plan(GGMLType.F16, "xos"), folder / "b.gguf"),
    ]


def encoder(name: str, kind: GGMLType, rows: int) -> Cast | Quantize:
    return Quantize(name, Cast(GGMLType.BF16), kind, rows) if kind.is_quantized else Cast(kind)


def split(request: Request) -> list[Output]:
    """The first of the two files, in parts."""
    whole = tiny(request)[0]
    parts = split_plan(whole.plan, 3500)
    paths = [split_path(whole.path, number, len(parts)) for number in range(1, len(parts) + 1)]
    return [Output(plan, path, last=n == 0) for n, (plan, path) in enumerate(zip(parts, paths, strict=True))]


@cache
def demo_plans() -> list[tuple[str, FilePlan]]:
    converted = plan_conversion(open_checkpoint(CHECKPOINT, progress=False))
    return [(name, plan_quantization(converted, QuantizeOptions(file_type(name)))) for name in ("Q4_K_M", "Q8_0")]


def demo(request: Request) -> list[Output]:
    """The demo checkpoint to two types."""
    return [Output(plan, Path(request.folder) / f"{name}.gguf") for name, plan in demo_plans()]


JOBS: Mapping[str, Callable[[Request], list[Output]]] = {"tiny": tiny, "split": split, "demo": demo}
READ_WEIGHTS = {"tiny": 16 * WIDTH, "split": 16 * WIDTH, "demo": 1 << 16}


def tune(request: Request) -> None:
    """Small chunks, a record of the journal for each, and what else a request changes."""
    chunks.READ_WEIGHTS = READ_WEIGHTS[request.job]
    run.ENCODE_WEIGHTS = chunks.READ_WEIGHTS // 2
    run.FLUSH_SECONDS = 0.0
    if request.version:
        vars(run)["_version"] = lambda _: request.version
    if request.flip:
        name, offset = request.flip

        class Flipped(ReadBack):
            """Reads nothing before all is written; then a bit has changed."""

            def advance(self, sums: Mapping[int, Checksums], count: Count | None = None) -> None:
                if count is None:
                    return
                with Path(request.folder, name).open("r+b") as file:
                    file.seek(offset)
                    byte = file.read(1)[0] ^ 16
                    file.seek(offset)
                    file.write(bytes([byte]))
                super().advance(sums, count)

        vars(run)["ReadBack"] = Flipped


def run_child(request: Request, share: mmap) -> dict[str, Any]:
    """Do a job in this process, which is ours alone; what came of it."""
    folder, said = Path(request.folder), list[str]()
    tune(request)
    outputs = JOBS[request.job](request)
    disk = Disk(folder, Fault(**request.fault) if request.fault else None, share)
    disk.trace = [] if request.trace else None
    disk.install()
    threads = 2 if request.job == "demo" else 1
    options = WriteOptions(
        source={"seed": request.source} if request.source else None,
        threads=threads,
        readers=threads,
        say=said.append,
        **request.options,
    )
    answer: dict[str, Any] = {}
    try:
        write_files(outputs, options)
    except BaseException as error:
        kinds = {"Interrupted": Interrupted, "ConvertError": ConvertError}
        kind = next((name for name, kind in kinds.items() if isinstance(error, kind)), type(error).__name__)
        answer = {"error": kind, "message": str(error), "notes": getattr(error, "__notes__", [])}
    if request.trace:
        Path(request.trace).write_bytes(pickle.dumps(disk.trace))
    sources = {id(source): source for output in outputs for tensor in output.plan.tensors for source in tensor.sources}
    reads = sum(getattr(source, "reads", 0) for source in sources.values())
    return {**answer, "said": said, "seen": disk.seen, "reads": reads, "seconds": time.monotonic() - disk.since}


def terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as the command line does it
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def answer_and_end(request: Request, share: mmap, pipe: int) -> None:
    """What the forked process does."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminate)
        try:
            answer = run_child(request, share)
        except BaseException as error:
            answer = {"error": "mistake", "message": repr(error)}
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # too late
        with os.fdopen(pipe, "wb") as file:
            file.write(json.dumps(answer).encode())
    finally:
        os._exit(0)


def serve(request: Request) -> dict[str, Any]:
    """Fork, wait, tell."""
    share = mmap(-1, 4096)
    share[:64] = b"0 start".ljust(64)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        answer_and_end(request, share, write_end)
    os.close(write_end)
    if request.kill_after is not None:
        while share[:2] == b"0 ":  # the clock runs from the first call on
            time.sleep(0.001)
        select.select([read_end], [], [], request.kill_after)
        os.kill(child, request.signal)  # it is not waited for yet, so its number is its own
    with os.fdopen(read_end, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    calls, _, last = share[:64].decode().strip().partition(" ")
    return {
        "killed": os.WIFSIGNALED(status),
        "calls": int(calls),
        "last": last,
        **(json.loads(answer) if answer else {}),
    }


def warm_up() -> None:
    """Load what a run needs, so that no child has to, and have no thread left that a fork would lose."""
    with TemporaryDirectory() as folder:
        write_files(tiny(Request("tiny", folder)), WriteOptions(source={}))
    time.sleep(0.1)
    gc.collect()
    gc.freeze()  # children need no copies of it


def main() -> None:
    warm_up()
    for line in sys.stdin:
        print(json.dumps(serve(Request(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
