"""Importance is collected as llama-imatrix collects it: counts exactly, sums to 1e-4 element by element."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.imatrix import Sums, read_imatrix, read_partial
from nemotron_gguf.runner import Client, RunnerError, inspect_model
from nemotron_gguf.runner.measure.chunks import Chunks, cut
from nemotron_gguf.runner.measure.importance import Goal, Progress, collect
from nemotron_gguf.runner.measure.reading import read_texts
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.tests.runner.conftest import TinyGGUF

GOLDEN = Path(__file__).parents[2] / "golden" / "imatrix"


@pytest.fixture(scope="module")
def engine() -> Iterator[Client]:
    with Client() as client:
        yield client


@pytest.fixture(scope="module")
def demo_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nemotron_gguf.convert import Output, WriteOptions, open_checkpoint, plan_conversion, write_files

    path = tmp_path_factory.mktemp("demo-f32") / "demo.gguf"
    with open_checkpoint(str(CHECKPOINT)) as checkpoint:
        write_files([Output(plan_conversion(checkpoint, "f32"), path)], WriteOptions(source={}))
    return path


def chunks_of(engine: Client, file: Path, n_ctx: int) -> Chunks:
    found = engine.read_texts(file, read_texts([GOLDEN / "text.txt"]))
    ids = [np.frombuffer(raw, np.int32).tolist() for raw in found.texts]
    return cut(ids, n_ctx, None if found.bos < 0 else found.bos)


def collected(
    engine: Client, path: Path, partial: Path, window: Window, goal: Goal, **options: Any
) -> Mapping[str, Sums]:
    chunks = chunks_of(engine, path, window.n_ctx)
    return collect(engine, inspect_model(path), chunks, window.placement(), partial, goal, **options).partial.entries


def assert_same(found: Mapping[str, Sums], golden: str) -> None:
    expected = read_imatrix(GOLDEN / golden).entries
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        assert found[name].counts.tolist() == entry.sums.counts.tolist(), name
        ours, theirs = found[name].load(), entry.sums.load()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6 * theirs.mean(), err_msg=name)


def test_the_demo_model(engine: Client, demo_f32: Path, tmp_path: Path) -> None:
    """Four layers of experts, attention, Mamba; four chunks at a time, computed 512 tokens at a time."""
    window = Window(n_ctx=256, threads=1, batch=1024, ubatch=512)
    assert_same(collected(engine, demo_f32, tmp_path / "p", window, Goal(8)), "demo.gguf")


def test_an_expert_that_is_not_reached_and_the_output(engine: Client, tiny_gguf: TinyGGUF, tmp_path: Path) -> None:
    window = Window(n_ctx=64, threads=1, batch=64, ubatch=64)
    found = collected(engine, tiny_gguf(), tmp_path / "p", window, Goal(3, process_output=True))
    assert_same(found, "tiny-3.gguf")
    assert "output.weight" in found
    assert 0 in found["blk.2.ffn_up_exps.weight"].counts


def test_several_sequences_in_small_steps(engine: Client, tiny_gguf: TinyGGUF, tmp_path: Path) -> None:
    window = Window(n_ctx=64, threads=1, batch=128, ubatch=32)
    found = collected(engine, tiny_gguf(), tmp_path / "p", window, Goal(16))
    assert_same(found, "tiny-16.gguf")
    assert "output.weight" not in found


def test_until_every_expert_has_seen_enough(engine: Client, demo_f32: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    window = Window(n_ctx=128, threads=1, batch=128)
    found = collected(engine, demo_f32, tmp_path / "p", window, Goal(2, until_covered=30), on_progress=steps.append)
    experts = [sums.counts.min() for sums in found.values() if len(sums.counts) > 1]
    assert min(experts) >= 30
    before = [step for step in steps if step.total][-2]
    assert before.fewest < 30 or before.chunks < 2, "it ends at once"
    assert steps[-1].chunks < steps[-1].total


def test_going_on_ends_in_the_same_bytes(engine: Client, tiny_gguf: TinyGGUF, tmp_path: Path) -> None:
    path, window = tiny_gguf(), Window(n_ctx=64, threads=1, batch=128, ubatch=64)
    collected(engine, path, tmp_path / "whole", window, Goal(10))
    collected(engine, path, tmp_path / "parts", window, Goal(4))
    assert read_partial(tmp_path / "parts").chunks_done == 4
    steps: list[Progress] = []
    collected(engine, path, tmp_path / "parts", window, Goal(10), on_progress=steps.append)
    assert min(step.chunks for step in steps if step.total) == 4, "what was read is not read again"
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_belongs_to_another_text_is_refused(engine: Client, tiny_gguf: TinyGGUF, tmp_path: Path) -> None:
    path = tiny_gguf()
    collected(engine, path, tmp_path / "p", Window(n_ctx=64, threads=1), Goal(2))
    with pytest.raises(RunnerError, match="collected from something else"):
        collected(engine, path, tmp_path / "p", Window(n_ctx=32, threads=1), Goal(2))


def test_what_is_not_finite_is_an_error(engine: Client, tiny_gguf: TinyGGUF, tmp_path: Path) -> None:
    path = tiny_gguf(fill={"blk.1.attn_v.weight": 1e30})
    with pytest.raises(RunnerError, match="is not finite"):
        collected(engine, path, tmp_path / "p", Window(n_ctx=64, threads=1), Goal(2))
    assert not (tmp_path / "p").exists()


def test_tensors_of_another_layout_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose `ggml_tensor` differs is refused before anything is read through it."""
    from nemotron_gguf.runner.engine import tensors
    from nemotron_gguf.runner.engine.ggml import Ggml
    from nemotron_gguf.runner.engine.library import library

    ggml = Ggml(library())
    found = tensors.operations(ggml)
    names = [
        ggml.function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)(op) for op in (found.mul_mat, found.mul_mat_id)
    ]
    assert names == [b"MUL_MAT", b"MUL_MAT_ID"]

    class Shifted(ctypes.Structure):
        _fields_ = (("type", ctypes.c_int), ("more", ctypes.c_int64), *tensors.Tensor._fields_[1:])

    monkeypatch.setattr(tensors, "Tensor", Shifted)
    with pytest.raises(RunnerError, match="in another way"):
        tensors.operations(ggml)
