"""Synthetic models of the family and llama.cpp's own quantizer, for the comparisons of this folder.

The models have the real names and keys, and matrices of few rows: llama.cpp's quantizer looks at names and columns,
never at how many rows there are. Sixteen layers, so that the rules about eighths of a model show.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from nemotron_gguf.convert.writer.write import Output, WriteOptions, write_files
from nemotron_gguf.models.imatrix import read_imatrix
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization

LLAMA_QUANTIZE = Path(__file__).with_name("llama_quantize.py")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """A model's dimensions; `pattern` has a letter a layer: M Mamba, E experts, - MLP, * attention."""

    architecture: str = "nemotron_h_moe"
    hidden: int = 256
    expert: int = 256
    shared: int = 512
    inner: int = 256
    n_experts: int = 4
    n_heads: int = 8
    n_kv_heads: int = 2
    pattern: str = "EEM*EM*EM*EME*EE"
    storage: str = "BF16"
    is_tied: bool = False
    is_gated: bool = False


ALIGNED = Sizes()
UNALIGNED = Sizes(hidden=224, expert=96, shared=160, inner=320, storage="F32")
DENSE = Sizes(architecture="nemotron_h", n_experts=0, pattern="--M*-M*-M*-M-*--", storage="F16")
EIGHT = Sizes(n_experts=8, pattern="*E*EM*E*E*E*E*EE", is_tied=True)
ODD = Sizes(hidden=272, expert=80, shared=48, inner=200, n_experts=2)
GATED = Sizes(architecture="nemotron_h", n_experts=0, pattern="*-*-*-*-*-*-*-*-", is_gated=True)
MODELS = {"gated": GATED, "aligned": ALIGNED, "unaligned": UNALIGNED, "dense": DENSE, "eight": EIGHT, "odd": ODD}


def shapes(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and row-major shapes of the tensors, rows cut short."""
    n, rows = sizes.hidden, 4
    yield "token_embd.weight", (24, n)
    yield "output_norm.weight", (n,)
    if not sizes.is_tied:
        yield "output.weight", (24, n)
    for layer, letter in enumerate(sizes.pattern):
        parts: dict[str, tuple[int, ...]] = {"attn_norm.weight": (n,)}
        if letter == "M":
            parts |= {"ssm_in.weight": (rows, n), "ssm_out.weight": (rows, sizes.inner), "ssm_conv1d.weight": (16, 4)}
            parts |= {"ssm_conv1d.bias": (16,), "ssm_dt.bias": (8,), "ssm_a": (8, 1), "ssm_d": (8, 1)}
            parts |= {"ssm_norm.weight": (2, sizes.inner // 2)}
        elif letter == "*":
            heads = dict.fromkeys(("attn_q.weight", "attn_k.weight", "attn_v.weight"), (rows, n))
            parts |= {**heads, "attn_output.weight": (rows, sizes.inner)}
        elif letter == "-":
            parts |= {"ffn_up.weight": (rows, n), "ffn_down.weight": (rows, sizes.expert)}
            if sizes.is_gated:
                parts |= {"ffn_gate.weight": (rows, n)}
        else:
            parts |= {"ffn_gate_inp.weight": (sizes.n_experts, n), "exp_probs_b.bias": (sizes.n_experts,)}
            parts |= {"ffn_up_exps.weight": (sizes.n_experts, rows, n), "ffn_up_shexp.weight": (rows, n)}
            parts |= {"ffn_down_exps.weight": (sizes.n_experts, rows, sizes.expert)}
            parts |= {"ffn_down_shexp.weight": (rows, sizes.shared)}
        for name, shape in parts.items():
            yield f"blk.{layer}.{name}", shape


def make_model(path: Path, sizes: Sizes) -> Path:
    """Write the model with gguf-py: weights of a normal distribution with a few large ones, as real ones have."""
    writer = gguf.GGUFWriter(path, sizes.architecture)
    letters = sizes.pattern
    writer.add_name("Synthetic Nemotron")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)  # before other keys: it must move to the end
    writer.add_block_count(len(letters))
    writer.add_context_length(4096)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length([sizes.expert if letter in "-E" else 0 for letter in letters])
    writer.add_head_count(sizes.n_heads)
    writer.add_head_count_kv([sizes.n_kv_heads if letter == "*" else 0 for letter in letters])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    for add, value in (
        *((writer.add_ssm_conv_kernel, 4), (writer.add_ssm_inner_size, sizes.inner), (writer.add_ssm_state_size, 16)),
        *((writer.add_ssm_time_step_rank, 8), (writer.add_ssm_group_count, 2), (writer.add_vocab_size, 24)),
    ):
        add(value)
    if sizes.n_experts:
        writer.add_expert_count(sizes.n_experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(sizes.expert)
    writer.add_token_list(["<unk>", "é", "字"])
    writer.add_quantization_version(2)
    writer.add_add_bos_token(True)
    rng = np.random.default_rng(7)
    for name, shape in shapes(sizes):
        values = (rng.standard_normal(shape) * rng.choice([0.02, 0.02, 0.3], shape)).astype(np.float32)
        add_tensor(writer, name, values, sizes.storage if name.endswith("weight") and len(shape) > 1 else "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tensor(writer: gguf.GGUFWriter, name: str, values: Floats, storage: str) -> None:
    kind = gguf.GGMLQuantizationType[storage]
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


@dataclass(frozen=True)
class Importance:
    """An importance matrix as a file, and what llama-quantize passes on of it."""

    path: Path
    entries: Mapping[str, str]
    keys: tuple[tuple[str, str | int], ...]


def make_imatrix(folder: Path, sizes: Sizes) -> Importance:
    """A GGUF importance matrix for every matrix but the embedding; the second expert of layer 1 was never used."""
    path, rng, entries = folder / "importance.gguf", np.random.default_rng(3), {}
    writer = gguf.GGUFWriter(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["demo talk.txt", "more.txt"])
    writer.add_uint32("imatrix.chunk_count", 11)
    writer.add_uint32("imatrix.chunk_size", 512)
    for index, (name, shape) in enumerate(shapes(sizes)):
        if len(shape) < 2 or not name.endswith("weight") or name == "token_embd.weight":
            continue
        n_parts = shape[0] if len(shape) == 3 else 1
        sums = (rng.standard_normal((n_parts, shape[-1])) ** 2 * 40).astype(np.float32)
        counts = rng.integers(1, 50, (n_parts, 1)).astype(np.float32)
        if name.startswith("blk.1.") and n_parts > 1:
            counts[1] = sums[1] = 0
        writer.add_tensor(f"{name}.in_sum2", sums)
        writer.add_tensor(f"{name}.counts", counts)
        means = np.ones_like(sums)
        np.divide(sums, counts, out=means, where=counts > 0)
        entries[name] = str(folder / f"entry{index}.npy")
        np.save(entries[name], means)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    keys = (("file", str(path)), ("dataset", "demo talk.txt"), ("entries_count", len(entries)), ("chunks_count", 11))
    return Importance(path, entries, tuple((f"quantize.imatrix.{key}", value) for key, value in keys))


class LlamaQuantize:
    """llama.cpp's quantizer in a process of its own, started again after an abort."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __call__(
        self, source: Path, target: Path, name: str, importance: Importance | None = None, **more: Any
    ) -> Answer:
        """Quantize; `more` holds `tensor_types` (pattern and type) and fields of llama_model_quantize_params."""
        patterns = [(pattern, int(kind)) for pattern, kind in more.pop("tensor_types", ())]
        job: dict[str, Any] = {"source": str(source), "target": str(target), "tensor_types": patterns}
        job["params"] = {"ftype": file_type(name).number, "nthread": 2, **more}
        if importance:
            job |= {"imatrix": dict(importance.entries), "keys": importance.keys}
        process = self.process or self.start()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            self.process = None
            return Answer(process.wait(60), "aborted", target)
        answer = json.loads(line)
        return Answer(answer["code"], answer["log"], target)

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(LLAMA_QUANTIZE)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        return self.process

    def stop(self) -> None:
        if self.process:
            assert self.process.stdin
            self.process.stdin.close()
            self.process.wait(60)


@dataclass(frozen=True)
class Answer:
    """What came of a job: the return code (negative after an abort), llama.cpp's log and the file."""

    code: int
    log: str
    target: Path

    @property
    def data(self) -> bytes:
        assert self.code == 0, self.log[-2000:]
        return self.target.read_bytes()


@dataclass
class Workshop:
    """Models and importance matrices, each made when first asked for, and both quantizers."""

    folder: Path
    llama: LlamaQuantize = field(default_factory=LlamaQuantize)
    models: dict[str, Path] = field(default_factory=dict)
    matrices: dict[str, Importance] = field(default_factory=dict)

    def model(self, name: str) -> Path:
        if name not in self.models:
            self.models[name] = make_model(self.folder / f"{name}.gguf", MODELS[name])
        return self.models[name]

    def importance(self, name: str) -> Importance:
        if name not in self.matrices:
            folder = self.folder / name
            folder.mkdir()
            self.matrices[name] = make_imatrix(folder, MODELS[name])
        return self.matrices[name]

    def ours(
        self, source: Path, target: Path, name: str, importance: Importance | None = None, threads: int = 2, **more: Any
    ) -> bytes:
        """What this package makes; `more` holds fields of QuantizeOptions."""
        imatrix = read_imatrix(importance.path) if importance else None
        options = QuantizeOptions(file_type(name), imatrix=imatrix, **more)
        write_files([Output(plan_quantization(plan_of_file(source), options), target)], WriteOptions(threads=threads))
        return target.read_bytes()

    def assert_same(self, found: bytes, expected: bytes) -> None:
        """Equality to the byte, with the place of the first difference (pytest's own account takes minutes)."""
        if found != expected:
            pairs = enumerate(zip(found, expected, strict=False))
            at = next((index for index, (one, other) in pairs if one != other), min(len(found), len(expected)))
            pytest.fail(f"{len(found)} and {len(expected)} bytes differ at {at}: {found[at - 40 : at + 24]!r}")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path_factory.mktemp("quantizer"))
    yield workshop
    workshop.llama.stop()
