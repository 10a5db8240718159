"""Plans on two RPC workers of limited memory, which are real offload devices to libllama: what was predicted is what
they allocate, what is said to fit loads and answers, and one MiB too much is refused before anything is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.models.gguf_parts import read_whole
from nemotron_gguf.models.needs import needs_of
from nemotron_gguf.runner import Client, RunnerError
from nemotron_gguf.runner.engine.library import Device
from nemotron_gguf.runner.placement.placement import Placement, TensorOverride
from nemotron_gguf.runner.placement.plan import Plan, plan
from nemotron_gguf.runner.placement.shares import NO_PIPELINE, shares_of
from nemotron_gguf.runner.settings import Settings
from nemotron_gguf.tests.runner.placement.conftest import (
    HERE,
    MIB,
    Loaded,
    Worker,
    Workers,
    apart,
    list_devices,
    load_really,
)
from nemotron_gguf.tests.runner.placement.test_exact import assert_same

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in limits itself with RLIMIT_AS")
AMPLE = 2048 * MIB


def two(workers: Workers, *memory: int) -> tuple[list[Worker], tuple[Device, ...]]:
    started = [workers.start(size) for size in memory]
    return started, list_devices([worker.endpoint for worker in started])


def planned(path: Path, devices: tuple[Device, ...], **wishes: Any) -> Plan:
    rpc = tuple(device.endpoint for device in devices if device.endpoint)
    with Client() as engine:
        ask = partial(engine.probe, path)
        return plan(read_whole(path), Settings(rpc=rpc, threads=1, **wishes), devices, ask)


def resized(devices: tuple[Device, ...], sizes: dict[str, int]) -> tuple[Device, ...]:
    """The same devices with other memory."""
    return tuple(
        replace(device, memory_free=sizes[device.name], memory_total=sizes[device.name])
        if device.name in sizes
        else device
        for device in devices
    )


def assert_within(loaded: Loaded, plan: Plan, part: float) -> None:
    """The bytes of each device, compute buffers too, within that part of what was predicted."""
    for share in plan.devices:
        found = sum(size for (name, what), size in loaded.buffers.items() if name == share.device.name) * MIB
        assert found == pytest.approx(share.total, rel=part), share.device.name


PLACED = {
    "split": {"n_gpu_layers": -1, "tensor_split": (3.0, 5.0)},
    "part": {
        "n_gpu_layers": 5,
        "tensor_split": (1.0, 3.6),
        "parallel": 2,
        "cache_type_k": "Q8_0",
        "cache_type_v": "Q4_0",
    },
    "experts here": {
        "n_gpu_layers": -1,
        "tensor_split": (4.0, 4.0),
        "overrides": (TensorOverride("exps", "CPU"),),
        "use_mmap": False,
    },
    "one only": {"n_gpu_layers": -1},
}


@pytest.mark.parametrize("how", PLACED)
def test_weights_cache_and_state_to_the_byte(workers: Workers, wide_gguf: Path, how: str) -> None:
    """As libllama logs them, and as the workers say that they allocate them."""
    started, devices = two(workers, AMPLE, AMPLE)
    names = ("RPC0",) if how == "one only" else ("RPC0", "RPC1")
    endpoints = tuple(worker.endpoint for worker in started)
    base = Placement(ctx_size=3000, threads=1, devices=names, rpc=endpoints)
    placement = replace(base, **PLACED[how])  # type: ignore[arg-type]
    for worker in started:
        worker.forget()
    loaded = load_really(wide_gguf, placement, devices, n_tokens=2)
    shares = shares_of(needs_of(read_whole(wide_gguf)), placement, devices, {})
    assert_same(loaded, shares)
    assert len(loaded.tokens) == 2
    for worker, share in zip(started, shares[1:], strict=False):
        for nbytes in (share.weights, share.cache, share.state):
            assert nbytes == 0 or nbytes in worker.held()


@pytest.mark.parametrize("tied", [False, True])
def test_small_models_as_well(workers: Workers, tiny_gguf: Any, tied: bool) -> None:
    """The output of a tied model is a copy of the embedding on the device of the output."""
    path = tiny_gguf(drop="output.weight") if tied else tiny_gguf()
    started, devices = two(workers, AMPLE, AMPLE)
    endpoints = tuple(worker.endpoint for worker in started)
    placement = Placement(512, 1, -1, ("RPC0", "RPC1"), endpoints, (2.0, 2.0))
    assert_same(load_really(path, placement, devices), shares_of(needs_of(read_whole(path)), placement, devices, {}))


def test_all_of_it_on_two_devices(workers: Workers, wide_gguf: Path) -> None:
    """Both are filled alike; the library's own figure for what it computes with is taken."""
    _, devices = two(workers, 900 * MIB, 600 * MIB)
    found = planned(wide_gguf, devices, ctx_size=16384)
    assert found.placement.devices == ("RPC0", "RPC1")
    assert found.placement.n_gpu_layers == -1
    assert found.is_measured
    assert_within(load_really(wide_gguf, found.placement, devices), found, 0.02)
    assert abs(found.devices[1].total / 900 - found.devices[2].total / 600) < 0.25 * MIB


def test_experts_stay_here_where_all_does_not_fit(workers: Workers, wide_gguf: Path) -> None:
    started, devices = two(workers, 300 * MIB, 200 * MIB)
    found = planned(wide_gguf, devices, ctx_size=8192)
    assert found.placement.n_gpu_layers == -1
    assert found.placement.overrides
    assert not found.placement.use_mmap, "what the processor repacks would be in memory twice"
    assert "MoE layers on the CPU" in found.describe()
    for worker in started:
        worker.forget()
    loaded = load_really(wide_gguf, found.placement, devices)
    assert_within(loaded, found, 0.02)
    assert len(loaded.tokens) == 1
    for worker in started:
        assert sum(worker.held()) <= worker.memory


def test_fewer_layers_where_even_that_does_not_fit(workers: Workers, wide_gguf: Path) -> None:
    _, devices = two(workers, 150 * MIB, 150 * MIB)
    found = planned(wide_gguf, devices, ctx_size=4096)
    assert 0 < found.placement.n_gpu_layers < 7
    loaded = load_really(wide_gguf, found.placement, devices)
    assert_within(loaded, found, 0.02)


def test_the_last_mebibyte(workers: Workers, wide_gguf: Path) -> None:
    """Just as much memory as the thriftiest plan needs: it loads and answers. One MiB less: refused, with the numbers
    and ways out that hold. The workers' limits are real."""
    pinned = {"ctx_size": 8192, "n_gpu_layers": -1, "n_cpu_moe": 0}
    endpoints = [workers.start(1 << 20).endpoint for _ in range(2)]
    ample = resized(list_devices(endpoints), {"RPC0": AMPLE, "RPC1": AMPLE})
    swift = planned(wide_gguf, ample, **pinned)
    assert not swift.placement.overrides
    thrifty = planned(
        wide_gguf, resized(ample, {name: size - MIB for name, size in memory_for(swift).items()}), **pinned
    )
    assert [one.pattern for one in thrifty.placement.overrides] == [NO_PIPELINE]
    needed = memory_for(thrifty)
    workers.stop()
    started, devices = two(workers, needed["RPC0"], needed["RPC1"])
    found = planned(wide_gguf, devices, **pinned)
    loaded = load_really(wide_gguf, found.placement, devices)
    assert len(loaded.tokens) == 1
    assert_within(loaded, found, 0.02)
    assert all(sum(worker.held()) <= worker.memory for worker in started)
    for worker in started:
        worker.forget()
    short = resized(devices, {"RPC0": needed["RPC0"] - MIB})  # which has the attention, so that the context matters
    with pytest.raises(RunnerError, match=r"does not fit.*RPC\d.*would need .*weights .*cache .*free") as refused:
        planned(wide_gguf, short, **pinned)
    assert all(sum(worker.held()) < 16 * MIB for worker in started), "a probe makes the recurrent state, and no more"
    smaller = planned(wide_gguf, short, **pinned | {"ctx_size": offered(refused.value, "--ctx-size")})
    assert len(load_really(wide_gguf, smaller.placement, devices).tokens) == 1
    for option in ("--n-gpu-layers", "--n-cpu-moe"):
        name, number = option[2:].replace("-", "_"), offered(refused.value, option)
        assert planned(wide_gguf, short, **pinned | {name: number}).placement


def offered(error: RunnerError, option: str) -> int:
    """The number that a refusal offers for an option."""
    return int(str(error).partition(f"{option} ")[2].split(",")[0].split()[0])


def memory_for(plan: Plan) -> dict[str, int]:
    """Memory of each device on which the plan would have just enough."""
    return {share.device.name: least_memory(share.total) for share in plan.devices[1:]}


def least_memory(nbytes: int) -> int:
    """The memory of a device that has room for that many bytes and a twenty-fifth of it all for its driver."""
    total = nbytes * 25 // 24
    while total - min(512 << 20, total // 25) < nbytes:
        total += 1
    return total


def test_an_allocation_beyond_the_limit_fails_for_real(workers: Workers, wide_gguf: Path) -> None:
    """Loaded in spite of the plan, the worker has no memory, and that is one error, not a crash."""
    worker = workers.start(100 * MIB, slack=150 * MIB)
    devices = list_devices([worker.endpoint])
    placement = Placement(4096, 1, -1, ("RPC0",), (worker.endpoint,))
    shares = shares_of(needs_of(read_whole(wide_gguf)), placement, devices, {})
    assert not shares[1].fits
    answer = apart(do="load", path=str(wide_gguf), placement=asdict(placement), n_tokens=1)
    assert "llama.cpp cannot load" in answer["error"]


def test_a_worker_that_is_not_there(workers: Workers) -> None:
    worker = workers.start(100 * MIB)
    workers.stop()
    answer = apart(do="devices", rpc=[worker.endpoint])
    assert f"no RPC worker answers at {worker.endpoint}" in answer["error"]


def test_the_version_that_is_expected_is_that_of_the_library(workers: Workers) -> None:
    import socket
    from importlib.metadata import version

    from nemotron_gguf.runner.engine.workers import PROTOCOLS

    host, port = workers.start(100 * MIB).endpoint.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(bytes([14]) + (24).to_bytes(8, "little") + bytes(24))
        answer = connection.recv(36, socket.MSG_WAITALL)
    assert int.from_bytes(answer[:8], "little") == 28
    assert tuple(answer[8:10]) == PROTOCOLS[version("llama-cpp-python").partition("+")[0]]


def test_a_worker_that_is_busy(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves one program at a time; ggml itself would wait for ever."""
    import socket

    from nemotron_gguf.runner.engine import workers as greeting

    monkeypatch.setattr(greeting, "_PATIENCE", 0.5)
    worker = workers.start(100 * MIB)
    host, port = worker.endpoint.split(":")
    with socket.create_connection((host, int(port))), pytest.raises(RunnerError, match="does not answer"):
        greeting.greet(worker.endpoint)


def test_a_worker_that_dies_while_a_plan_is_made(workers: Workers, wide_gguf: Path) -> None:
    """The helper dies of it; the plan goes on without what it cannot have, and says why where nothing else is left."""
    worker = workers.start(AMPLE)
    devices = list_devices([worker.endpoint])
    workers.stop()
    found = planned(wide_gguf, devices, ctx_size=4096)
    assert (found.placement.devices, found.placement.rpc) == ((), ())
    assert any("no layer goes to the workers" in note for note in found.notes)
    with pytest.raises(RunnerError, match="cannot run this file so"):
        planned(wide_gguf, devices, ctx_size=4096, n_gpu_layers=-1)


def test_a_worker_that_dies(workers: Workers, wide_gguf: Path) -> None:
    """ggml ends the process that used it: a signal and a sentence on stderr for the front to pass on."""
    worker = workers.start(AMPLE)
    placement = Placement(512, 1, -1, ("RPC0",), (worker.endpoint,))
    job = {"do": "load", "path": str(wide_gguf), "placement": asdict(placement), "n_tokens": -1}
    command = [sys.executable, str(HERE / "load_apart.py"), json.dumps(job)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, env=os.environ | {"GGML_NO_BACKTRACE": "1"}, **pipes) as process:
        assert process.stdout
        assert "buffers" in process.stdout.readline()
        worker.process.kill()
        worker.process.wait(20)
        _, said = process.communicate("go on\n", timeout=60)
    assert process.returncode < 0
    assert "RPC server crashed" in said
