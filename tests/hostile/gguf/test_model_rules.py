"""Sound containers with models that contradict themselves: one line each, and what libllama does with each."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import u32
from nemotron_gguf.runner import RunnerError, inspect_model
from nemotron_gguf.tests.hostile.gguf import draft as draft_module
from nemotron_gguf.tests.hostile.gguf.draft import DRAFTS, llama
from nemotron_gguf.tests.hostile.gguf.model_cases import CASES
from nemotron_gguf.tests.hostile.gguf.oracle import Oracle


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    path = case.make().write(tmp_path / "a.gguf")
    read_gguf(path)  # the container is sound
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(RunnerError) as caught:
            inspect_model(path)
        assert time.perf_counter() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert case.words in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_the_rule_stands_for_something(tmp_path: Path, name: str, oracle: Oracle) -> None:
    """libllama's own verdict: most of these end its process or are refused there, too."""
    case = CASES[name]
    found = oracle.ask(case.make().write(tmp_path / "a.gguf"))
    assert found.outcome == case.libllama, found.why


@pytest.mark.parametrize("name", DRAFTS)
def test_the_sound_file_passes_and_runs(tmp_path: Path, name: str, oracle: Oracle) -> None:
    path = DRAFTS[name]().write(tmp_path / "a.gguf")
    assert inspect_model(path).architecture == DRAFTS[name]().architecture
    assert oracle.ask(path).outcome == "runs"


@pytest.mark.parametrize("kind", list(GGMLType))
def test_every_type_that_runs_passes(
    tmp_path: Path, kind: GGMLType, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the output matrix: what the preflight lets pass is what libllama computes with."""
    monkeypatch.setattr(draft_module, "HIDDEN", 256)  # the largest block
    draft = llama().set(A__attention__key_length=u32(16), A__attention__value_length=u32(16))
    path = draft.type("output.weight", kind).write(tmp_path / "a.gguf")
    try:
        inspect_model(path)
    except RunnerError:
        assert oracle.ask(path).outcome == "dies"
    else:
        assert oracle.ask(path).outcome == "runs"
