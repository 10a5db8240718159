"""`nemotron imatrix` against llama-imatrix, in turn on the same file and text: equal numbers, and at what cost?

    python bench/imatrix.py MODEL.gguf… [--text FILE] [--chunks 12] [--ctx-size 512] [--ubatch-size 512] [--threads 1]

`python bench/llama_tools.py llama-imatrix` builds llama-imatrix with the libllama that llama-cpp-python has here;
another one is taken from LLAMA_IMATRIX or the PATH. Seconds are those of the processor, of all threads: a busy machine
does not change them much.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from llama_tools import find_tool  # type: ignore[import-not-found]  # the script beside this one

from nemotron_gguf.models.imatrix import read_imatrix

TEXT = Path(__file__).parent.parent / "runner" / "measure" / "texts" / "calibration" / "english.txt"


def run(command: list[str]) -> tuple[float, float]:
    """Seconds of the processor, and of the clock."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - begun


def compare(ours: Path, theirs: Path) -> str:
    """Whether names and counts are equal, and the largest relative difference of a sum."""
    one, other = read_imatrix(ours), read_imatrix(theirs)
    if one.entries.keys() != other.entries.keys() or one.chunk_count != other.chunk_count:
        return "different tensors or chunks"
    worst, n_counts = 0.0, 0
    for name, entry in other.entries.items():
        if not np.array_equal(one.entries[name].counts, entry.counts):
            return f"different counts of {name}"
        n_counts += len(entry.counts)
        a, b = one.entries[name].sums.load(), entry.sums.load()
        worst = max(worst, float((np.abs(a - b) / np.maximum(np.abs(b), 1e-30)).max()))
    return f"{len(one.entries)} tensors, {n_counts} counts equal, sums within {worst:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--ctx-size", type=int, default=512)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    program = find_tool("llama-imatrix")
    shared = ["--chunks", str(options.chunks), "--ctx-size", str(options.ctx_size), "--threads", str(options.threads),
              "--ubatch-size", str(options.ubatch_size)]  # fmt: skip
    for model in options.models:
        with TemporaryDirectory() as work:
            ours, theirs = Path(work) / "ours.gguf", Path(work) / "theirs.gguf"
            reference = run([program, "-m", str(model), "-f", str(options.text), "-o", str(theirs), "--no-ppl",
                             *shared])  # fmt: skip
            verb = [sys.executable, "-m", "nemotron_gguf.ui.cli", "imatrix", str(model), "--text", str(options.text)]
            own = run([*verb, "--raw", "--device", "none", "-o", str(ours), *shared])
            ratio = f"processor {own[0]:.1f} s, llama-imatrix {reference[0]:.1f} s ({own[0] / reference[0]:.2f})"
            clock = f"clock {own[1]:.1f} s, {reference[1]:.1f} s"
            print(f"{model.name}: {compare(ours, theirs)}; {ratio}; {clock}", flush=True)


if __name__ == "__main__":
    main()
