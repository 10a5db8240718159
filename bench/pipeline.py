"""Convert and quantize against llama.cpp's own programs, on a checkpoint with the 30B's dimensions and fewer layers.

    python bench/pipeline.py [--rounds 3] [--experts 32] [--layers MEM*E] [--type Q4_K_M] [--aligned]

Both are run on the same checkpoint, in turn, several times; the table gives medians of wall time, the peak of resident
memory, and whether the bytes are the same. The reference converter is taken from NEMOTRON_LLAMA_CPP_SOURCE, or from the
cache that `make test` fills; the reference quantizer is `llama_model_quantize` of the installed library.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from nemotron_gguf.convert.cast import to_bf16
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.gguf_reader import read_gguf

AGAINST = Path(__file__).parent.parent / "tests" / "against"
VOCAB = 32768
PIECE = 1 << 20  # weights made at a time
HEADS, HEAD_DIM, GROUPS, STATE, KERNEL = 64, 64, 8, 128, 4


class Widths(NamedTuple):
    """Columns of the model: the residual stream, an expert, the shared expert."""

    hidden: int
    expert: int
    shared: int


REAL = Widths(2688, 1856, 3712)
ALIGNED = Widths(2816, 2048, 3840)  # the next multiples of 256, which K-types divide


@dataclass(frozen=True)
class Run:
    """What a command took: seconds of wall time, bytes of resident memory at its peak."""

    seconds: float
    peak: int


def shapes(
    layers: str, n_experts: int, vocab: int = VOCAB, widths: Widths = REAL
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a checkpoint in the Hub's layout, by default with the 30B's widths."""
    hidden, width, shared = widths
    inner = HEADS * HEAD_DIM
    channels = inner + 2 * GROUPS * STATE
    yield "backbone.embeddings.weight", (vocab, hidden)
    for index, letter in enumerate(layers):
        at = f"backbone.layers.{index}"
        yield f"{at}.norm.weight", (hidden,)
        if letter == "M":
            yield f"{at}.mixer.in_proj.weight", (inner + channels + HEADS, hidden)
            yield f"{at}.mixer.conv1d.weight", (channels, 1, KERNEL)
            yield f"{at}.mixer.conv1d.bias", (channels,)
            yield from ((f"{at}.mixer.{name}", (HEADS,)) for name in ("A_log", "D", "dt_bias"))
            yield f"{at}.mixer.norm.weight", (inner,)
            yield f"{at}.mixer.out_proj.weight", (hidden, inner)
        elif letter == "*":
            rows = {"q_proj": 4096, "k_proj": 256, "v_proj": 256}
            yield from ((f"{at}.mixer.{name}.weight", (count, hidden)) for name, count in rows.items())
            yield f"{at}.mixer.o_proj.weight", (hidden, 4096)
        else:
            yield f"{at}.mixer.gate.weight", (n_experts, hidden)
            yield f"{at}.mixer.gate.e_score_correction_bias", (n_experts,)
            for expert in range(n_experts):
                yield f"{at}.mixer.experts.{expert}.up_proj.weight", (width, hidden)
                yield f"{at}.mixer.experts.{expert}.down_proj.weight", (hidden, width)
            yield f"{at}.mixer.shared_experts.up_proj.weight", (shared, hidden)
            yield f"{at}.mixer.shared_experts.down_proj.weight", (hidden, shared)
    yield "backbone.norm_f.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)


def make_checkpoint(folder: Path, layers: str, n_experts: int, widths: Widths = REAL, vocab: int = VOCAB) -> int:
    """Random BF16 weights under the demo's tokenizer; returns their number."""
    folder.mkdir()
    for path in CHECKPOINT.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder / path.name)
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hybrid_override_pattern": layers, "num_hidden_layers": len(layers), "hidden_size": widths.hidden,
        "vocab_size": vocab, "n_routed_experts": n_experts, "num_experts_per_tok": 6, "head_dim": 128,
        "moe_intermediate_size": widths.expert, "moe_shared_expert_intermediate_size": widths.shared,
        "intermediate_size": widths.expert,
        "mamba_num_heads": HEADS, "mamba_head_dim": HEAD_DIM, "n_groups": GROUPS, "ssm_state_size": STATE,
        "num_attention_heads": 32, "num_key_value_heads": 2, "max_position_embeddings": 262144,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    listed = list(shapes(layers, n_experts, vocab, widths))
    header, end = {}, 0
    for name, shape in listed:
        size = 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        # in small pieces: a child begins with the peak of its parent's memory, which would hide its own
        for count in (min(PIECE, prod(shape) - start) for _, shape in listed for start in range(0, prod(shape), PIECE)):
            values = rng.standard_normal(count, dtype=np.float32) * np.float32(0.02)
            file.write(to_bf16(values.reshape(1, -1)).tobytes())
    return end // 2


def run(command: Sequence[str | Path], job: Path) -> Run:
    """Run a command to its end, its words hidden and `job` as its input; a failure ends the benchmark."""
    started = time.monotonic()
    parts = [str(part) for part in command]
    with (
        job.open("rb") as given,
        subprocess.Popen(parts, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode or (b'"code": ' in output and b'"code": 0' not in output):  # the quantizer's word on its job
        sys.exit(f"{command} failed:\n{output.decode(errors='replace')[-2000:]}")
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def reference_source() -> Path:
    """llama.cpp's converter."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemotron-gguf"
    named = os.environ.get("NEMOTRON_LLAMA_CPP_SOURCE")
    folder = Path(named) if named else cache / f"llama.cpp-{version('llama-cpp-python')}-source"
    if not (folder / "convert_hf_to_gguf.py").is_file():
        sys.exit(f"{folder} has no convert_hf_to_gguf.py; run `make test` once, or set NEMOTRON_LLAMA_CPP_SOURCE")
    return folder


def commands(work: Path, kind: str, threads: int) -> dict[str, list[str | Path]]:
    """The five commands, by name; each writes a file of its own."""
    from nemotron_gguf.quant import file_type

    nemotron = [sys.executable, "-m", "nemotron_gguf.ui.cli"]
    source, reference = work / "checkpoint", reference_source()
    convert_job = {"model": str(source), "outtype": "bf16", "pre": "tekken", "outfile": str(work / "reference.gguf")}
    (work / "convert.json").write_text(json.dumps([convert_job]))
    params = {"nthread": threads, "ftype": file_type(kind).number}
    target = str(work / "reference-quantized.gguf")
    quantize_job = {"source": str(work / "ours.gguf"), "target": target, "params": params}
    (work / "quantize.json").write_text(json.dumps(quantize_job) + "\n")
    n = ["--threads", str(threads), "--force"]
    as_kind = ["--type", kind, "--pad", "none"]  # as llama.cpp, to the byte
    return {
        "convert: llama.cpp": [sys.executable, AGAINST / "llama_convert.py", reference, work / "convert.json"],
        "convert: ours": [*nemotron, "convert", source, work / "ours.gguf", *n],
        "quantize: llama.cpp": [sys.executable, AGAINST / "quantizer" / "llama_quantize.py"],
        "quantize: ours": [*nemotron, "quantize", work / "ours.gguf", work / "quantized.gguf", *as_kind, *n],
        "build: ours": [*nemotron, "build", source, *as_kind, "--out-dir", work / "built", *n],
    }


def same_bytes(work: Path, kind: str) -> tuple[bool, bool, bool]:
    """Converted tensors, quantized file, built file: the same as the reference's?"""
    ours, reference = read_gguf(work / "ours.gguf"), read_gguf(work / "reference.gguf")
    places = {tensor.name: tensor for tensor in reference.tensors}
    with ours.path.open("rb") as a, reference.path.open("rb") as b:
        converted = len(places) == len(ours.tensors)
        for tensor in ours.tensors:
            a.seek(tensor.offset)
            b.seek(places[tensor.name].offset)
            converted &= a.read(tensor.nbytes) == b.read(tensor.nbytes)
    target = (work / "reference-quantized.gguf").read_bytes()
    built = next((work / "built").glob(f"*-{kind}.gguf"))
    return converted, (work / "quantized.gguf").read_bytes() == target, built.read_bytes() == target


def main() -> None:
    """Make the checkpoint, run everything in turn, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--layers", default="MEM*E")
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--aligned", action="store_true", help="widths that are multiples of 256 instead of the 30B's")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="nemotron-bench-") as name:
        work = Path(name)
        weights = make_checkpoint(
            work / "checkpoint", chosen.layers, chosen.experts, ALIGNED if chosen.aligned else REAL
        )
        planned = commands(work, chosen.type, chosen.threads)
        runs: dict[str, list[Run]] = {title: [] for title in planned}
        for _ in range(chosen.rounds):
            for title, command in planned.items():
                runs[title].append(run(command, work / "quantize.json"))
        print(f"{weights / 1e9:.2f} B weights in BF16, {chosen.type}, {chosen.threads} threads, {chosen.rounds} rounds")
        for title, measured in runs.items():
            seconds = statistics.median(one.seconds for one in measured)
            print(f"{title:20} {seconds:7.1f} s  {max(one.peak for one in measured) / 2**20:8.0f} MiB at the peak")
        print("same bytes (tensors converted, file quantized, file built):", *same_bytes(work, chosen.type))


if __name__ == "__main__":
    main()
