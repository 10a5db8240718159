"""llama.cpp's own server, where it is built, answers as our engine does."""

from __future__ import annotations

import runpy
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron_gguf.runner import Answer, Done, RunnerError, Sampling
from nemotron_gguf.ui.remote import RemoteModel

LLAMA_TOOLS = Path(__file__).parents[3] / "bench" / "llama_tools.py"


@pytest.fixture(scope="module")
def url(demo_q8: Path) -> Iterator[str]:
    try:
        program = runpy.run_path(str(LLAMA_TOOLS))["find_tool"]("llama-server")
    except SystemExit as missing:
        pytest.skip(str(missing))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "-c", "2048", "-np", "1", "-t", "1", "--jinja", "--api-key", "key", "--offline"]
    process = subprocess.Popen([program, "-m", demo_q8, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def opened(url: str) -> RemoteModel:
    """Once it listens and has loaded the model."""
    for _ in range(600):
        try:
            return RemoteModel(url, "key")
        except RunnerError:
            time.sleep(0.1)
    raise AssertionError("llama-server does not answer")


def test_the_demo_model_answers_through_it(url: str) -> None:
    with opened(url) as model:
        assert model.context_size > 0
        talk = model.conversation(thinking=False)
        events = list(talk.send("What is GGUF?", sampling=Sampling(temperature=0), max_tokens=60))
        assert "GGUF" in "".join(event.text for event in events if isinstance(event, Answer))
        done = events[-1]
        assert isinstance(done, Done)
        assert done.finish_reason == "stop"
        assert done.usage.completion_tokens > 3
        assert done.timings.generated_per_second > 0
        with pytest.raises(RunnerError, match="does not fit the context"):
            model.answer([{"role": "user", "content": "word " * 3000}])
    with pytest.raises(RunnerError, match="wants another API key"):
        list(RemoteModel(url, "other", model="x").answer([{"role": "user", "content": "hello"}]))
