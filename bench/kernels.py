"""The quantizing kernels against ggml's own quantizers, a thread each, on BF16 weights.

    python bench/kernels.py [--rows 128] [--rounds 5] [TYPE ...]
    python bench/kernels.py --compare 2000000 [TYPE ...]     # blocks of each type, compared bit for bit; hours

Time is the thread's processor time, so that a machine that is shared does not matter much; the best of several rounds,
both sides in turn. ggml gets the weights as F32, as it wants them: the time to widen them is not counted against it.
The last column is memcpy's, of as many bytes as the kernel reads and writes: 1 would be the speed of memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nemotron_gguf.convert.cast import to_bf16
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant import kernels
from nemotron_gguf.quant.ggml_base import ENCODABLE, as_float32, library

N_PER_ROW = 2048
TESTS = Path(__file__).parent.parent / "tests" / "quant" / "kernels" / "test_kernels_bits.py"


def best(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Seconds of processor time of each function, at best, called in turn."""
    seconds = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = time.thread_time()
            function()
            seconds[index] = min(seconds[index], time.thread_time() - start)
    return seconds


def measure(kind: GGMLType, weighted: bool, n_rows: int, rounds: int) -> str:
    """One line of the table."""
    rng = np.random.default_rng(1)
    stored = to_bf16(rng.standard_normal((n_rows, N_PER_ROW)).astype(np.float32) * np.float32(0.02))
    wide = as_float32(stored)
    importance = np.square(rng.standard_normal(N_PER_ROW)).astype(np.float32) if weighted else None
    weights = None if importance is None else importance.ctypes.data
    out = np.empty((n_rows, kind.row_bytes(N_PER_ROW)), dtype=np.uint8)
    half = np.empty((stored.nbytes + out.nbytes) // 2, dtype=np.uint8)
    other = np.ones_like(half)
    lib = library()
    ways: list[Callable[[], object]] = [
        lambda: lib.ggml_quantize_chunk(kind, wide.ctypes.data, out.ctypes.data, 0, n_rows, N_PER_ROW, weights),
        lambda: np.copyto(half, other),
    ]
    ways += [partial(kernels.encode, kind, stored, importance, lanes) for lanes in kernels.instruction_sets()]
    theirs, memcpy, *ours = best(rounds, *ways)
    bandwidth = (stored.nbytes + out.nbytes) / 1e9
    cells = [
        f"{kind.name}{', with importance' if weighted else ''}",
        f"{stored.size / theirs / 1e6:.1f}",
        *(f"{stored.size / seconds / 1e6:.0f} ({theirs / seconds:.1f}×)" for seconds in ours),
        f"{bandwidth / ours[0]:.2f} of {bandwidth / memcpy:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compare", type=int, metavar="BLOCKS", help="compare bits instead, this many blocks a type")
    options = parser.parse_args(arguments)
    if options.compare:
        environment = {**os.environ, "NEMOTRON_KERNEL_BLOCKS": str(options.compare)}
        which = ["-k", f"same_bits and ({' or '.join(options.types)})"] if options.types else []
        command = [sys.executable, "-m", "pytest", "-q", "-s", *which, str(TESTS)]
        sys.exit(subprocess.run(command, env=environment).returncode)
    if not kernels.instruction_sets():
        sys.exit("no kernels were compiled when the package was installed")
    print(f"{platform.processor() or platform.machine()}: {_processor()}\n")
    lanes = kernels.instruction_sets()
    print(f"| type | ggml, M weights/s | {' | '.join(lanes)} | GB/s, of memcpy's |")
    print(f"| --- |{' ---: |' * (2 + len(lanes))}")
    for kind in [GGMLType[name] for name in options.types] or sorted(ENCODABLE):
        for weighted in (False, True):
            if kernels.has_kernel(kind, weighted):
                print(measure(kind, weighted, options.rows, options.rounds), flush=True)


def _processor() -> str:
    """The processor's name, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
