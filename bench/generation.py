"""The engine against llama-bench, in turn on the same file: tokens a second, and the ratio pair by pair.

    python bench/generation.py MODEL.gguf [--rounds 5] [--n-prompt 512] [--n-gen 64] [--threads N]
    python bench/generation.py --make MODEL.gguf     a model with the 30B's widths and random weights, to measure on
    … --vocab 2304                                   with no tokens but the demo's, so that each has a text

`python bench/llama_tools.py llama-bench` builds llama-bench with the libllama that llama-cpp-python has here, for a
fair ratio; another one is taken from LLAMA_BENCH or the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from llama_tools import find_tool  # type: ignore[import-not-found]  # the script beside this one

LAYERS, EXPERTS = "MEMEM*EME", 28


def make(path: Path, vocab: int) -> None:
    """Random weights at the 30B's widths, nine layers, in Q8_0."""
    from pipeline import make_checkpoint  # type: ignore[import-not-found]  # the script beside this one

    with TemporaryDirectory(dir=path.parent) as work:
        make_checkpoint(Path(work) / "random", LAYERS, EXPERTS, vocab=vocab)
        build = ["build", str(Path(work) / "random"), "--type", "Q8_0", "--out-dir", work]
        subprocess.run([sys.executable, "-m", "nemotron_gguf.ui.cli", *build], check=True)
        shutil.move(next(Path(work).glob("*.gguf")), path)


def theirs(program: str, options: argparse.Namespace) -> dict[str, float]:
    """Tokens a second of llama-bench, by test."""
    from llama_cpp import llama_cpp

    environment = {**os.environ, "LD_LIBRARY_PATH": str(llama_cpp._base_path)}
    command = [program, "-m", str(options.model), "-o", "json", "-r", "1", "-t", str(options.threads)]
    command += ["-p", str(options.n_prompt), "-n", str(options.n_gen)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = json.loads(done.stdout)
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"] for row in found}


def ours(options: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Tokens a second of the engine, by test, and its own seconds a token."""
    command = [sys.executable, "-m", "nemotron_gguf.ui.cli", "bench", str(options.model), "--json", "-r", "1"]
    command += ["-p", str(options.n_prompt), "-n", str(options.n_gen), "--threads", str(options.threads)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["results"]
    own = next(row["engine_seconds_per_token"] for row in found if row["n_gen"])
    return {row["test"]: row["tokens_per_second"] for row in found}, own


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="the file to measure, or with --make to write")
    parser.add_argument("--make", action="store_true", help="write such a file and leave")
    parser.add_argument("--vocab", type=int, default=32768, help="tokens of the model that is made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-prompt", type=int, default=512)
    parser.add_argument("--n-gen", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.make:
        make(options.model, options.vocab)
        return
    program = find_tool("llama-bench")
    pairs: dict[str, list[tuple[float, float]]] = {}
    own = []
    for number in range(options.rounds):
        other = theirs(program, options)
        found, seconds = ours(options)
        own.append(seconds)
        for test, speed in found.items():
            pairs.setdefault(test, []).append((speed, other[test]))
        print(f"round {number + 1}: " + ", ".join(f"{test} {a[-1][0] / a[-1][1]:.3f}" for test, a in pairs.items()))
    for test, speeds in pairs.items():
        mine, peer = (statistics.median(column) for column in zip(*speeds, strict=True))
        ratio = statistics.median(a / b for a, b in speeds)
        print(f"{test}: {mine:.2f} against llama-bench's {peer:.2f} tokens/s, median ratio {ratio:.3f}")
    print(f"the engine's own time: {statistics.median(own) * 1e6:.0f} µs a token")


if __name__ == "__main__":
    main()
