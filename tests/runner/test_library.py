"""A llama_cpp that is missing or does not load is one sentence; devices are listed by kind; settings are completed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import f32, u32
from nemotron_gguf.runner import Client, Device, DeviceKind, RunnerError, Sampling, Settings, inspect_model, set_up
from nemotron_gguf.runner.placement.plan import plan
from nemotron_gguf.runner.settings import choose_sampling, default_threads

GPU = Device("CUDA0", "A card", DeviceKind.GPU, 1 << 34, 1 << 34, "CUDA0")
CPU = Device("CPU", "A processor", DeviceKind.CPU, 1 << 34, 1 << 34, "CPU")
ACCELERATOR = Device("ACC", "An accelerator", DeviceKind.ACCELERATOR, 1 << 34, 1 << 34, "ACC")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise RuntimeError('Failed to load libllama.so: libcuda.so.1: cannot open shared object')", "NVIDIA driver"),
        ("raise OSError('wrong\\nELF class')", "wrong ELF class"),
        ("raise FileNotFoundError('no libllama')", "build it again"),
        ("import no_such_module_at_all", "nemotron_gguf.runner.build_llama"),
    ],
)
def test_a_library_that_does_not_load_is_one_sentence(tmp_path: Path, source: str, told: str) -> None:
    tmp_path.joinpath("llama_cpp.py").write_text(source, encoding="utf-8")
    script = (
        "from nemotron_gguf.runner import Client, RunnerError\n"
        "try:\n    with Client() as engine: engine.devices()\n"
        "except RunnerError as error: print('TOLD', ascii(str(error)))"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("TOLD")
    assert told in done.stdout
    assert "\\n" not in done.stdout


def test_the_processor_is_always_there() -> None:
    with Client() as engine:
        found = [device for device in engine.devices() if device.kind is DeviceKind.CPU]
    assert len(found) == 1
    assert found[0].memory_total > 0


@pytest.fixture(scope="module")
def engine() -> Iterator[Client]:
    with Client() as client:
        yield client


def test_defaults_come_from_the_file_and_the_machine(tiny_gguf: Callable[..., Path], engine: Client) -> None:
    keys = {
        "nemotron_h_moe.context_length": u32(1 << 20),
        "general.sampling.temp": f32(0.6),
        "general.sampling.top_p": f32(0.95),
        "general.sampling.min_p": f32(-3),
    }
    setup = set_up(inspect_model(tiny_gguf(keys)), Settings(), engine)
    placement = setup.plan.placement
    assert placement.ctx_size == setup.ctx_size == 16384, "never the trained length by itself"
    assert (placement.n_gpu_layers, placement.devices, placement.threads) == (0, (), default_threads())
    assert setup.sampling == Sampling(0.6, 40, 0.95, 0.05)
    assert "on the CPU" in setup.describe()
    assert set_up(inspect_model(tiny_gguf()), Settings(), engine).ctx_size == 1024


def test_layers_go_to_a_gpu_where_there_is_one(tiny_gguf: Callable[..., Path]) -> None:
    file = inspect_model(tiny_gguf())
    assert plan(file, Settings(), [CPU, ACCELERATOR]).placement.n_gpu_layers == 0
    found = plan(file, Settings(), [GPU, CPU]).placement
    assert (found.n_gpu_layers, found.devices) == (-1, ("CUDA0",))
    assert plan(file, Settings(n_gpu_layers=2), [GPU, CPU]).placement.n_gpu_layers == 2
    assert plan(file, Settings(n_gpu_layers=0), [GPU, CPU]).describe().count("on the CPU") == 1


def test_what_a_person_asks_goes_first(tiny_gguf: Callable[..., Path], engine: Client) -> None:
    file = inspect_model(tiny_gguf({"general.sampling.temp": f32(0.6)}))
    wishes = Settings(ctx_size=64, threads=3, temperature=0.0, seed=7, max_tokens=9, context_overflow="drop-oldest")
    setup = set_up(file, wishes, engine)
    assert (setup.ctx_size, setup.plan.placement.threads, setup.max_tokens) == (64, 3, 9)
    assert (setup.sampling.temperature, setup.sampling.seed) == (0, 7)
    assert setup.context_overflow == "drop-oldest"


def test_every_number_of_a_sampling_can_be_asked_for(tiny_gguf: Callable[..., Path]) -> None:
    file = read_gguf(tiny_gguf())
    for field in fields(Sampling):
        wanted = ((3, 1.0),) if field.name == "logit_bias" else 1
        assert getattr(choose_sampling(Settings(**{field.name: wanted}), file), field.name) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ctx_size": 0},
        {"threads": 0},
        {"threads": 10_000},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"seed": -1},
        {"max_tokens": 0},
        {"n_gpu_layers": -2},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, int | float]) -> None:
    with pytest.raises(RunnerError, match="--" + next(iter(wrong)).replace("_", "-")):
        Settings(**wrong)  # type: ignore[arg-type]
