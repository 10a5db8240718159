"""Workers that stand in for GPUs, a model of real widths to fill them, and what libllama really allocates."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, u32
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.placement.placement import Placement

HERE = Path(__file__).parent
MIB = 1 << 20


def apart(**job: Any) -> Any:
    """What `load_apart.py` answers. Raises ChildProcessError where its process died."""
    command = [sys.executable, str(HERE / "load_apart.py"), json.dumps(job)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if ended.returncode:
        raise ChildProcessError(ended.returncode, ended.stderr[-2000:])
    return json.loads(ended.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Loaded:
    """Buffers by device's name and what they are for, in MiB as logged; what was generated."""

    buffers: Mapping[tuple[str, str], float]
    counts: Mapping[tuple[str, str], int]
    tokens: Sequence[int]


def owner(buffer: str, devices: Sequence[Device]) -> str:
    return next((device.name for device in devices if device.buffer_type == buffer), "CPU")


def load_really(path: Path, placement: Placement, devices: Sequence[Device], n_tokens: int = 1) -> Loaded:
    answer = apart(do="load", path=str(path), placement=asdict(placement), n_tokens=n_tokens)
    assert "error" not in answer, answer
    sizes: defaultdict[tuple[str, str], float] = defaultdict(float)
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for buffer, what, size in answer["buffers"]:
        sizes[owner(buffer, devices), what] += float(size)
        counts[owner(buffer, devices), what] += 1
    return Loaded(sizes, counts, answer["tokens"])


def list_devices(rpc: Sequence[str] = ()) -> tuple[Device, ...]:
    answer = apart(do="devices", rpc=list(rpc))
    assert "error" not in answer, answer
    return tuple(msgspec.convert(one, Device) for one in answer)


def ask_apart(path: Path) -> Any:
    """A planner's question to the library, in a process of its own each time."""

    def ask(placement: Placement) -> Mapping[str, int] | None:
        try:
            answer = apart(do="probe", path=str(path), placement=asdict(placement))
        except ChildProcessError:
            return None
        return None if "error" in answer else answer

    return ask


@dataclass
class Worker:
    """A running stand-in."""

    endpoint: str
    memory: int
    process: subprocess.Popen[str]
    log: Path

    def held(self) -> list[int]:
        """Bytes of each buffer that the last program which allocated any had, at its fullest."""
        live: dict[str, int] = {}
        fullest: list[int] = []
        for line in self.log.read_text().splitlines():
            if match := re.search(r"remote_ptr: (\w+), remote_size: (\d+)", line):
                live[match[1]] = int(match[2])
            elif match := re.search(r"\[free_buffer\] remote_ptr: (\w+)", line):
                live.pop(match[1], None)
            if sum(live.values()) > sum(fullest):
                fullest = [size for size in live.values() if size]
        return fullest

    def forget(self) -> None:
        """Begin a new account."""
        os.truncate(self.log, 0)


@dataclass
class Workers:
    """Starts stand-ins, and ends those that it started."""

    folder: Path
    running: list[Worker] = field(default_factory=list)

    def start(self, memory: int, slack: int = 600 * MIB, port: int = 0) -> Worker:
        if not port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        log = self.folder / f"worker-{port}.log"
        command = [sys.executable, str(HERE / "rpc_worker.py"), str(port), str(memory), str(slack)]
        environment = os.environ | {"MALLOC_ARENA_MAX": "1", "GGML_RPC_DEBUG": "1", "OMP_NUM_THREADS": "1"}
        with log.open("a") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, text=True, env=environment)
        worker = Worker(f"127.0.0.1:{port}", memory, process, log)
        self.running.append(worker)
        self.wait(port, process)
        return worker

    def wait(self, port: int, process: subprocess.Popen[str]) -> None:
        for _ in range(300):
            assert process.poll() is None, "the worker did not start"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail("the worker does not answer")

    def stop(self) -> None:
        for worker in self.running:
            worker.process.kill()
            worker.process.wait(20)
        self.running.clear()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path)
    yield started
    started.stop()


PATTERN = "ME*MEME"
HIDDEN, EXPERT, SHARED, N_VOCAB, N_EXPERTS = 2688, 1856, 3712, 4096, 8
INNER, CONV, N_HEADS = 4096, 4096 + 2 * 8 * 128, 64


def wide_shapes() -> Iterator[tuple[str, tuple[int, ...], GGMLType]]:
    """Nemotron 3 Nano's widths, fewer layers, experts and words. Experts in Q4_0, which the processor repacks."""
    yield "token_embd.weight", (N_VOCAB, HIDDEN), GGMLType.Q8_0
    yield "output_norm.weight", (HIDDEN,), GGMLType.F32
    yield "output.weight", (N_VOCAB, HIDDEN), GGMLType.Q8_0
    kinds: dict[str, dict[str, tuple[tuple[int, ...], GGMLType]]] = {
        "M": {
            "ssm_in.weight": ((INNER + CONV + N_HEADS, HIDDEN), GGMLType.Q8_0),
            "ssm_conv1d.weight": ((CONV, 4), GGMLType.F32),
            "ssm_conv1d.bias": ((CONV,), GGMLType.F32),
            "ssm_dt.bias": ((N_HEADS,), GGMLType.F32),
            "ssm_a": ((N_HEADS, 1), GGMLType.F32),
            "ssm_d": ((N_HEADS, 1), GGMLType.F32),
            "ssm_norm.weight": ((8, INNER // 8), GGMLType.F32),
            "ssm_out.weight": ((HIDDEN, INNER), GGMLType.Q8_0),
        },
        "E": {
            "ffn_gate_inp.weight": ((N_EXPERTS, HIDDEN), GGMLType.F32),
            "exp_probs_b.bias": ((N_EXPERTS,), GGMLType.F32),
            "ffn_up_exps.weight": ((N_EXPERTS, EXPERT, HIDDEN), GGMLType.Q4_0),
            "ffn_down_exps.weight": ((N_EXPERTS, HIDDEN, EXPERT), GGMLType.Q4_0),
            "ffn_up_shexp.weight": ((SHARED, HIDDEN), GGMLType.Q8_0),
            "ffn_down_shexp.weight": ((HIDDEN, SHARED), GGMLType.Q8_0),
        },
        "*": {
            "attn_q.weight": ((32 * 128, HIDDEN), GGMLType.Q8_0),
            "attn_k.weight": ((2 * 128, HIDDEN), GGMLType.Q8_0),
            "attn_v.weight": ((2 * 128, HIDDEN), GGMLType.Q8_0),
            "attn_output.weight": ((HIDDEN, 32 * 128), GGMLType.Q8_0),
        },
    }
    for layer, letter in enumerate(PATTERN):
        yield f"blk.{layer}.attn_norm.weight", (HIDDEN,), GGMLType.F32
        for name, (shape, kind) in kinds[letter].items():
            yield f"blk.{layer}.{name}", shape, kind


def wide_metadata() -> dict[str, Value]:
    from nemotron_gguf.tests.runner.conftest import tiny_metadata

    keys = tiny_metadata()
    arch = "nemotron_h_moe"
    numbers = {
        "block_count": len(PATTERN), "context_length": 1 << 20, "embedding_length": HIDDEN, "vocab_size": N_VOCAB,
        "ssm.inner_size": INNER, "ssm.state_size": 128, "ssm.time_step_rank": N_HEADS, "ssm.group_count": 8,
        "attention.head_count": 32, "attention.key_length": 128, "attention.value_length": 128,
        "expert_count": N_EXPERTS, "expert_used_count": 6, "expert_feed_forward_length": EXPERT,
        "expert_shared_feed_forward_length": SHARED, "rope.dimension_count": 128,
    }  # fmt: skip
    keys |= {f"{arch}.{key}": u32(number) for key, number in numbers.items()}
    heads, widths = [2 * (one == "*") for one in PATTERN], [EXPERT * (one == "E") for one in PATTERN]
    keys[f"{arch}.attention.head_count_kv"] = array(ValueType.INT32, heads)
    keys[f"{arch}.feed_forward_length"] = array(ValueType.INT32, widths)
    words = keys["tokenizer.ggml.tokens"].data
    assert isinstance(words, list)
    more = [f"word{index}" for index in range(N_VOCAB - len(words))]
    keys["tokenizer.ggml.tokens"] = array(ValueType.STRING, [*words, *more])
    keys["tokenizer.ggml.token_type"] = array(ValueType.INT32, [3] * 7 + [1] * (N_VOCAB - 7))
    return keys


def write_wide(path: Path) -> Path:
    """Random weights at a scale that keeps the numbers lively; a few rows, over and over, so that it takes a second."""
    shapes = list(wide_shapes())
    header = encode_header(wide_metadata(), shapes)
    rng = np.random.default_rng(5)
    with path.open("wb") as file:
        file.write(header.data)
        for (name, shape, kind), offset in zip(shapes, header.offsets, strict=True):
            values = rng.standard_normal((min(shape[0] if len(shape) > 1 else 1, 64), shape[-1])).astype(np.float32)
            values = values * np.float32(shape[-1] ** -0.5) if len(shape) > 1 else np.abs(values)
            values = -np.abs(values) if name.endswith("ssm_a") else values
            rows = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind.name])
            n_rows = int(np.prod(shape[:-1], dtype=np.int64))
            file.seek(offset)
            repeats, rest = divmod(n_rows, rows.shape[0])
            for _ in range(repeats):
                file.write(rows.tobytes())
            file.write(rows[:rest].tobytes())
        file.truncate(header.file_size)
    return path


@pytest.fixture(scope="session")
def wide_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Nemotron 3 of the real one's widths, 400 MB of random weights."""
    return write_wide(tmp_path_factory.mktemp("wide") / "wide.gguf")
