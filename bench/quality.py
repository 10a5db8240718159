"""`nemotron eval` against llama-perplexity: every figure, the bytes of the logits file, the speed.

    python bench/quality.py [MODEL.gguf REFERENCE.gguf] [--text FILE] [--ctx-size 128,512] [--chunks 24,6] [--threads 1]
    python bench/quality.py --chunks 12,3 --golden tests/against/golden/perplexity.json     what the tests compare with

Without files the demo model's Q4_K_M is compared with its BF16. `python bench/llama_tools.py llama-perplexity` builds
the program with the libllama that llama-cpp-python has here; another one is taken from LLAMA_PERPLEXITY or the PATH.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_tools import find_tool  # type: ignore[import-not-found]  # the script beside this one

TEXT = Path(__file__).parent.parent / "tests/against/golden/perplexity.txt"
PRINTED = {
    "perplexity": "Mean PPL(Q)", "perplexity_base": "Mean PPL(base)", "log_ratio": "Mean ln(PPL(Q)/PPL(base))",
    "kl_mean": "Mean    KLD", "kl_median": "Median  KLD", "kl_99": "99.0%   KLD", "kl_999": "99.9%   KLD",
    "kl_max": "Maximum KLD", "top_1": "Same top p", "p_diff_mean": "Mean    Δp", "p_diff_rms": "RMS Δp",
}  # fmt: skip


def parse(printed: str) -> dict[str, dict[str, float | None]]:
    """llama-perplexity's figures by our names, with the errors that it gives; shares of 1."""
    found: dict[str, dict[str, float | None]] = {}
    for name, label in PRINTED.items():
        match = re.search(rf"{re.escape(label)}\s*:\s*(-?[\d.]+)(?: ±\s*([\d.]+))?\s*(%?)", printed)
        assert match, f"{label} in:\n{printed}"
        unit = 0.01 if match[3] else 1.0
        found[name] = {"value": float(match[1]) * unit, "error": float(match[2]) * unit if match[2] else None}
    return found


class Tool:
    """llama-perplexity of the build that llama-cpp-python has."""

    def __init__(self, threads: int) -> None:
        self.program, self.threads = find_tool("llama-perplexity"), threads

    def run(self, model: Path, base: Path, *options: str) -> tuple[str, float]:
        """What it prints, and the seconds it takes."""
        from llama_cpp import llama_cpp

        environment = {**os.environ, "LD_LIBRARY_PATH": str(llama_cpp._base_path)}
        command = [self.program, "-m", str(model), "-t", str(self.threads), "--kl-divergence-base", str(base), *options]
        command += ["-b", "512", "--device", "none"]
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            sys.exit(f"{self.program} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout + done.stderr, time.perf_counter() - begun


def compare(
    model: Path, reference: Path, options: argparse.Namespace, n_ctx: int, chunks: int, work: Path
) -> dict[str, Any]:
    """Both programs on the same files, text and setting; ours reads the logits that the other wrote."""
    from nemotron_gguf.runner.measure.measurer import Measurer
    from nemotron_gguf.runner.measure.reading import read_texts
    from nemotron_gguf.runner.measure.window import Window

    tool, base, own = Tool(options.threads), work / f"{n_ctx}.theirs", work / f"{n_ctx}.ours"
    size = ["-c", str(n_ctx)]
    _, base_seconds = tool.run(reference, base, "-f", str(options.text), "--chunks", str(chunks), *size)
    printed, their_seconds = tool.run(model, base, *size, "--kl-divergence")
    begun = time.perf_counter()
    with Measurer(Window(n_ctx, options.threads, batch=512)) as measurer:
        material = measurer.read(reference, read_texts([options.text]), chunks)
        measurer.llama_reference(reference, material, own)
        own_base = time.perf_counter() - begun
        begun = time.perf_counter()
        found = measurer.evaluate(model, measurer.read_llama_reference(base, material.chunks.bos))
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        exact = measurer.evaluate(model, measurer.reference(reference, material, work / f"{n_ctx}.exact"))
    n_tokens = material.chunks.tokens.size
    print(f"{model.name} against {reference.name}, {material.chunks.count} chunks of {n_ctx}")
    differ = sum(a != b for a, b in zip(own.read_bytes(), base.read_bytes(), strict=True))
    print(f"  logits file: {differ} of {base.stat().st_size} bytes differ")
    ours, theirs = found.divergence.as_dict(), parse(printed)
    for name, expected in theirs.items():
        show(name, ours[name], expected, exact.divergence.as_dict()[name])
    print(f"  tokens/s: reference {n_tokens / own_base:.0f} ours, {n_tokens / base_seconds:.0f} theirs;"
          f" file {n_tokens / seconds:.0f} ours, {n_tokens / their_seconds:.0f} theirs,"
          f" ratio {their_seconds / seconds:.2f}")  # fmt: skip
    return {"n_ctx": n_ctx, "chunks": chunks, "sha256": sha256(base), "figures": theirs}


def show(name: str, ours: Any, theirs: dict[str, float | None], exact: Any) -> None:
    value, expected = ours["value"], theirs["value"]
    assert expected is not None
    off = abs(value - expected) / abs(expected) if expected else abs(value)
    error = "" if theirs["error"] is None else f"  ± {ours['error']:.6f} and {theirs['error']:.6f}"
    print(f"  {name:16} {value:14.6f} {expected:14.6f}  off by {off:.1e}{error}   exact: {exact['value']:.6f}")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="the file to measure, and its reference")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--ctx-size", default="128,512")
    parser.add_argument("--chunks", default="24,6", help="for each --ctx-size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--golden", type=Path, help="write llama-perplexity's figures there")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="nemotron-quality-") as folder:
        work = Path(folder)
        if len(options.files) == 2:
            model, reference = options.files
        else:
            from nemotron_gguf.ui.demo import make

            made = make(work)
            model, reference = made["Q4_K_M"], made["BF16"]
        sizes = zip(map(int, options.ctx_size.split(",")), map(int, options.chunks.split(",")), strict=True)
        cases = [compare(model, reference, options, n_ctx, chunks, work) for n_ctx, chunks in sizes]
    if options.golden:
        from nemotron_gguf.runner.engine.library import library

        features = library().llama_print_system_info().decode()
        golden = {"made by": "python bench/quality.py --golden", "processor": features, "cases": cases}
        options.golden.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
