"""What a second core brings: to the kernels, and to `nemotron build` as a whole.

    python bench/cores.py [--rounds 7] [--type Q4_K_M] [--checkpoint FOLDER] [KERNEL ...]

Kernels: two threads do the work of one at once. The first figure is the ratio of wall times, medians of rounds in turn,
which needs a machine that does nothing else; the second holds on a busy one, too: twice the share of time in which both
threads could run, divided by what a call costs more of processor time when another runs beside it.

The command: once held on one core, once on two, in turn; medians of wall time. And, for a busy machine again, how much
of its processor time it used while no second thread of it could run, and what Amdahl's law makes of that. Without
--checkpoint, that of `bench/pipeline.py --aligned` is made.
"""

from __future__ import annotations

import argparse
import os
import runpy
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nemotron_gguf.convert.cast import to_bf16
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels

KINDS = ("Q4_0", "Q8_0", "MXFP4", "Q4_K", "Q6_K", "IQ4_XS", "IQ3_S")
SHAPE = (512, 2048)  # what a worker of `build` encodes at a time
ROUND = 0.5  # seconds of work in a round, about


class Worker(threading.Thread):
    """Encodes the same rows n times; knows afterwards how long it ran, could have run, and took."""

    def __init__(self, kind: GGMLType, rows: np.ndarray, n: int) -> None:
        super().__init__()
        self.kind, self.rows, self.n = kind, rows, n
        self.ran = self.ready = self.took = 0.0

    def run(self) -> None:
        started, before = time.perf_counter(), _scheduled()
        cpu = time.thread_time()
        for _ in range(self.n):
            kernels.encode(self.kind, self.rows, None)
        self.ran = time.thread_time() - cpu
        after = _scheduled()
        self.took = time.perf_counter() - started
        self.ready = after - before


def _scheduled() -> float:
    """Seconds that this thread has run or waited for a core (Linux)."""
    ran, waited, _ = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()
    return (int(ran) + int(waited)) / 1e9


def run(*workers: Worker) -> float:
    """Seconds until all are done."""
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - started


def of_kernel(kind: GGMLType, rounds: int) -> tuple[float, float]:
    """How many times as fast two threads are: by wall time, and by processor time."""
    rng = np.random.default_rng(1)
    rows = [to_bf16(rng.standard_normal(SHAPE).astype(np.float32) * np.float32(0.02)) for _ in range(2)]
    run(Worker(kind, rows[0], 1))
    run(first := Worker(kind, rows[0], 1))
    n = max(1, round(ROUND / first.ran))
    wall, alone, beside, ready = [], [], [], []
    for _ in range(rounds):
        one, two = Worker(kind, rows[0], 2 * n), [Worker(kind, some, n) for some in rows]
        wall.append(run(one) / run(*two))
        alone.append(one.ran / 2)
        beside.append(sum(worker.ran for worker in two) / 2)
        ready.append(sum(worker.ready for worker in two) / sum(worker.took for worker in two))
    return statistics.median(wall), 2 * statistics.median(ready) * min(alone) / min(beside)


def build(checkpoint: Path, kind: str, out: str, cores: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start `nemotron build` with as many threads as cores, on these."""
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "build", str(checkpoint), "--type", kind]
    command += ["--pad", "none", "--force"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, "--out-dir", out, "--threads", str(len(cores))], stdout=quiet, stderr=quiet)
    os.sched_setaffinity(process.pid, cores)
    return process


def of_command(checkpoint: Path, kind: str, rounds: int) -> tuple[float, float]:
    """Median seconds of `nemotron build` on one core, and on two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with TemporaryDirectory(prefix="nemotron-cores-", dir=checkpoint.parent) as out:
        for _ in range(rounds):
            for n, taken in seconds.items():
                started = time.monotonic()
                if build(checkpoint, kind, out, cores[:n]).wait():
                    sys.exit("the build failed")
                taken.append(time.monotonic() - started)
    return statistics.median(seconds[1]), statistics.median(seconds[2])


def alone_of_command(checkpoint: Path, kind: str) -> tuple[float, float]:
    """Processor time of `nemotron build` with two threads: while not two of its threads could run, and in all."""
    spent, alone, total = dict[str, int](), 0.0, 0.0
    with TemporaryDirectory(prefix="nemotron-cores-", dir=checkpoint.parent) as out:
        process = build(checkpoint, kind, out, sorted(os.sched_getaffinity(0))[:2])
        while process.poll() is None:
            ready, seconds = 0, 0.0
            for task in Path(f"/proc/{process.pid}/task").glob("*"):
                with suppress(OSError):
                    ready += (task / "stat").read_text().rpartition(")")[2].split()[0] in "RD"
                    ran = int((task / "schedstat").read_text().split()[0])
                    seconds += (ran - spent.get(task.name, 0)) / 1e9
                    spent[task.name] = ran
            total += seconds
            alone += seconds if ready < 2 else 0
            time.sleep(0.005)
    return alone, total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", default=KINDS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--checkpoint", type=Path)
    chosen = parser.parse_args(arguments)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    for name in chosen.kernels:
        wall, ready = of_kernel(GGMLType[name], chosen.rounds)
        print(f"{name:8} {wall:.2f} by wall time, {ready:.2f} by processor time", flush=True)
    with TemporaryDirectory(prefix="nemotron-cores-") as folder:
        checkpoint = chosen.checkpoint
        if checkpoint is None:
            pipeline = runpy.run_path(str(Path(__file__).with_name("pipeline.py")))
            checkpoint = Path(folder) / "checkpoint"
            pipeline["make_checkpoint"](checkpoint, "MEM*E", 32, pipeline["ALIGNED"])
        one, two = of_command(checkpoint, chosen.type, chosen.rounds)
        alone, total = alone_of_command(checkpoint, chosen.type)
    print(f"build to {chosen.type}: {one:.1f} s on one core, {two:.1f} s on two: {one / two:.2f}")
    print(f"  {alone:.1f} s of its {total:.1f} s alone: {total / (alone + (total - alone) / 2):.2f} by Amdahl's law")
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
