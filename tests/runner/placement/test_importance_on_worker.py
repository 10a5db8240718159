"""Importance of a model on a device whose memory is not ours: inputs and expert ids are fetched from there."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nemotron_gguf.models.imatrix import read_imatrix
from nemotron_gguf.runner import Client, inspect_model
from nemotron_gguf.runner.measure.chunks import cut
from nemotron_gguf.runner.measure.importance import Goal, collect
from nemotron_gguf.runner.measure.reading import read_texts
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.tests.runner.conftest import TinyGGUF
from nemotron_gguf.tests.runner.placement.conftest import MIB, Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in limits itself with RLIMIT_AS")
GOLDEN = Path(__file__).parents[2] / "golden" / "imatrix"


def test_it_is_that_of_llama_imatrix(workers: Workers, tiny_gguf: TinyGGUF, tmp_path: Path) -> None:
    worker, file = workers.start(512 * MIB), inspect_model(tiny_gguf())
    window = Window(n_ctx=64, threads=1, batch=128, ubatch=32)
    there = replace(window.placement(), devices=("RPC0",), rpc=(worker.endpoint,), n_gpu_layers=-1)
    with Client() as engine:
        assert [device.name for device in engine.devices(there.rpc)][-1] == "RPC0"
        ids = engine.read_texts(file.path, read_texts([GOLDEN / "text.txt"])).texts
        chunks = cut([np.frombuffer(raw, np.int32).tolist() for raw in ids], 64)
        found = collect(engine, file, chunks, there, tmp_path / "p", Goal(16)).partial.entries
    for name, entry in read_imatrix(GOLDEN / "tiny-16.gguf").entries.items():
        assert found[name].counts.tolist() == entry.sums.counts.tolist(), name
        expected = entry.sums.load()
        np.testing.assert_allclose(found[name].load(), expected, rtol=1e-4, atol=1e-6 * expected.mean(), err_msg=name)
