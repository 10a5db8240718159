"""The engine with a model on RPC workers: it answers from there; a worker's death or want of memory is one error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nemotron_gguf.runner import Answer, Client, EngineDiedError, PromptProgress, RunnerError, Settings, open_model
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.tests.runner.placement.conftest import MIB, Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in limits itself with RLIMIT_AS")

ASK = [{"role": "user", "content": "What is 8 + 5?"}]


def said(events: object) -> str:
    return "".join(event.text for event in events if isinstance(event, Answer))  # type: ignore[attr-defined]


def test_a_worker_that_dies_costs_one_answer_and_is_told_how_to_mend(workers: Workers, demo_q8: Path) -> None:
    worker = workers.start(512 * MIB)
    with open_model(demo_q8, Settings(rpc=(worker.endpoint,), threads=1, temperature=0)) as model:
        assert model.setup.plan.placement.devices == ("RPC0",)
        assert said(model.answer(ASK)) == "8 + 5 = 13."
        stream = model.answer(ASK)
        assert isinstance(next(iter(stream)), PromptProgress)
        stream = model.answer(ASK)
        worker.process.kill()
        worker.process.wait(20)
        with pytest.raises(EngineDiedError, match=f"RPC worker {worker.endpoint} no longer answers") as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        with pytest.raises(RunnerError, match=worker.endpoint):
            model.answer(ASK)
        workers.start(512 * MIB, port=int(worker.endpoint.rpartition(":")[2]))
        assert said(model.answer(ASK)) == "8 + 5 = 13.", "the next request works once it is there again"


def test_want_of_memory_at_load_is_one_error(workers: Workers, wide_gguf: Path, demo_q8: Path) -> None:
    """A placement that nobody planned: the worker has 64 MiB and says so, the file has hundreds."""
    worker = workers.start(64 * MIB, slack=200 * MIB)
    placement = Placement(512, 1, n_gpu_layers=-1, devices=("RPC0",), rpc=(worker.endpoint,))
    with Client() as client:
        with pytest.raises(RunnerError) as caught:
            client.load(wide_gguf, placement)
        assert "\n" not in str(caught.value)
        assert client.load(demo_q8, Placement(512, 1)).context_size == 512, "and the next request works"
