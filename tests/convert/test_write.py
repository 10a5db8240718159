"""The writer's promises: the same bytes however it is cut, every row read once, nothing half-written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, Rows, TensorPlan
from nemotron_gguf.convert.writer import chunks, run
from nemotron_gguf.convert.writer.write import Output, Progress, WriteOptions, write_files
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import string


@dataclass(eq=False)
class Memory:
    """Rows that lie in memory and count how often each was read."""

    values: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    reads: list[int] = field(default_factory=list)
    type: GGMLType = GGMLType.F32

    @property
    def n_rows(self) -> int:
        return self.values.shape[0]

    @property
    def n_per_row(self) -> int:
        return self.values.shape[1]

    def read(self, first: int, last: int) -> Rows:
        self.reads += range(first, last)
        return np.ascontiguousarray(self.values[first:last]).view(np.uint8)


@dataclass(frozen=True)
class Failing:
    """An encoder that fails at a row."""

    error: BaseException
    at: int = 30
    type: GGMLType = GGMLType.F32

    def encode(self, rows: Rows, source: GGMLType, n_per_row: int, first_row: int) -> Rows:  # noqa: ARG002
        if first_row >= self.at:
            raise self.error
        return rows


def source(n_rows: int, seed: int = 0, n_per_row: int = 24) -> Memory:
    return Memory(np.random.default_rng(seed).standard_normal((n_rows, n_per_row), dtype=np.float32))


def plan(*tensors: TensorPlan) -> FilePlan:
    return FilePlan({"general.architecture": string("test")}, tensors)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ENCODE_WEIGHTS", 24 * 7)
    monkeypatch.setattr(chunks, "READ_WEIGHTS", 24 * 20)


def test_stacked_sources_transform_and_casts(tmp_path: Path) -> None:
    import torch

    parts = (source(10, 1), source(3, 2), source(20, 3))
    whole = np.concatenate([part.values for part in parts])
    tensors = (
        TensorPlan("stack", (3, 11, 24), parts, Cast(GGMLType.BF16)),
        TensorPlan("a", (33, 24), parts, Cast(GGMLType.F32), transform=lambda values: -np.exp(values)),
        TensorPlan("half", (33, 24), parts, Cast(GGMLType.F16)),
    )
    path = tmp_path / "a.gguf"
    write_files([Output(plan(*tensors), path)], WriteOptions(threads=3))
    read = {tensor.name: path.read_bytes()[tensor.offset :][: tensor.nbytes] for tensor in read_gguf(path).tensors}
    bf16 = torch.from_numpy(whole).to(torch.bfloat16).view(torch.int16).numpy()
    assert read["stack"] == bf16.tobytes()
    assert read["a"] == (-np.exp(whole)).tobytes()
    assert read["half"] == whole.astype(np.float16).tobytes()


def test_bf16_rounds_as_torch_on_every_kind_of_number() -> None:
    import torch

    from nemotron_gguf.convert.cast import to_bf16

    bits = np.concatenate(
        [
            np.random.default_rng(5).integers(0, 2**32, 1_000_000, dtype=np.uint32),
            np.array([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 1, 0x3F808000, 0x3F818000], np.uint32),
        ]
    )
    values = bits.view(np.float32)
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    found, nan = to_bf16(values), np.isnan(values)
    assert (found[~nan] == expected[~nan]).all()
    assert ((found[nan] & 0x7F80) == 0x7F80).all()
    assert ((found[nan] & 0x7F) != 0).all()


def test_any_number_of_threads_gives_the_same_file(tmp_path: Path) -> None:
    tensors = [TensorPlan(f"t{n}", (40, 24), (source(40, n),), Cast(GGMLType.BF16)) for n in range(5)]
    for threads in (1, 2, 7):
        write_files([Output(plan(*tensors), tmp_path / f"{threads}.gguf")], WriteOptions(threads=threads))
    assert len({(tmp_path / f"{threads}.gguf").read_bytes() for threads in (1, 2, 7)}) == 1


def test_several_files_read_each_row_once(tmp_path: Path) -> None:
    first, second = source(50, 1), source(20, 2)

    def tensors(kind: GGMLType) -> list[TensorPlan]:
        return [
            TensorPlan("x", (50, 24), (first,), Cast(kind)),
            TensorPlan("y", (20, 24), (second,), Cast(GGMLType.F32)),
        ]

    jobs = [
        Output(plan(*tensors(GGMLType.F16)), tmp_path / "a.gguf"),
        Output(plan(*reversed(tensors(GGMLType.F32))), tmp_path / "b.gguf"),
    ]
    write_files(jobs, WriteOptions(threads=2))
    assert sorted(first.reads) == list(range(50))
    assert sorted(second.reads) == list(range(20))
    for name, kind in (("a", GGMLType.F16), ("b", GGMLType.F32)):
        write_files([Output(plan(*tensors(kind)), tmp_path / f"{name}-alone.gguf")])
        alone, together = read_gguf(tmp_path / f"{name}-alone.gguf"), read_gguf(tmp_path / f"{name}.gguf")
        for tensor in alone.tensors:
            other = next(t for t in together.tensors if t.name == tensor.name)
            assert (
                alone.path.read_bytes()[tensor.offset :][: tensor.nbytes]
                == together.path.read_bytes()[other.offset :][: other.nbytes]
            )


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    seen: list[Progress] = []
    tensor = TensorPlan("x", (50, 24), (source(50),), Cast(GGMLType.F16))
    write_files([Output(plan(tensor), tmp_path / "a.gguf")], WriteOptions(report=seen.append))
    writing = [at for at in seen if at.phase == "writing"]
    assert (writing[-1].done, writing[-1].total, writing[-1].written) == (4800, 4800, (2400,))
    assert [at.done for at in writing] == sorted({at.done for at in writing})
    size = (tmp_path / "a.gguf").stat().st_size
    assert (seen[-1].phase, seen[-1].done, seen[-1].total) == ("verifying", size, size)


@pytest.mark.parametrize("error", [ConvertError("the shard ends early"), KeyboardInterrupt(), SystemExit(143)])
def test_whatever_happens_nothing_is_left(tmp_path: Path, error: BaseException) -> None:
    data = source(100)
    good, bad = (TensorPlan("x", (100, 24), (data,), encoder) for encoder in (Cast(GGMLType.F32), Failing(error)))
    with pytest.raises(type(error)):
        write_files(
            [Output(plan(good), tmp_path / "a.gguf"), Output(plan(bad), tmp_path / "b.gguf")], WriteOptions(threads=2)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"old")

    def full(fd: int, data: memoryview, offset: int) -> int:
        if offset > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    job = Output(plan(TensorPlan("x", (100, 24), (source(100),), Cast(GGMLType.F32))), path)
    with pytest.raises(ConvertError, match="No space left") as caught:
        write_files([job], WriteOptions(force=True))
    assert "\n" not in str(caught.value)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.gguf", b"old")]


def test_without_pwrite_it_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = TensorPlan("x", (100, 24), (source(100),), Cast(GGMLType.F32))
    write_files([Output(plan(tensor), tmp_path / "a.gguf")], WriteOptions(threads=3))
    monkeypatch.delattr(os, "pwrite")
    write_files([Output(plan(tensor), tmp_path / "b.gguf")], WriteOptions(threads=3))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_names_are_checked_before_any_work(tmp_path: Path) -> None:
    data = source(10)
    made = plan(TensorPlan("x", (10, 24), (data,), Cast(GGMLType.F32)))
    (tmp_path / "there.gguf").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    for jobs, words in (
        ([tmp_path / "there.gguf"], "--force"),
        ([tmp_path / "folder"], "folder"),
        ([tmp_path / "no" / "a.gguf"], "does not exist"),
        ([tmp_path / "a.gguf", tmp_path / "a.gguf"], "two outputs"),
    ):
        with pytest.raises(ConvertError, match=words):
            write_files([Output(made, path) for path in jobs])
    assert data.reads == []
    assert (tmp_path / "there.gguf").read_bytes() == b"mine"
    write_files([Output(made, tmp_path / "there.gguf")], WriteOptions(force=True))
    assert read_gguf(tmp_path / "there.gguf").tensors[0].name == "x"


def test_no_room_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    data = source(10)
    with pytest.raises(ConvertError, match="free"):
        write_files([Output(plan(TensorPlan("x", (10, 24), (data,), Cast(GGMLType.F32))), tmp_path / "a.gguf")])
    assert data.reads == []


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from nemotron_gguf.ui import cli
from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.plan import FilePlan, TensorPlan
from nemotron_gguf.convert.writer.write import Output, WriteOptions, write_files
from nemotron_gguf.models.ggml import GGMLType

class Slow:
    type, n_rows, n_per_row = GGMLType.F32, 4000, 1024
    def read(self, first, last):
        print("reading", flush=True)
        time.sleep(0.2)
        return np.zeros((last - first, 4096), np.uint8)

plan = FilePlan({}, (TensorPlan("x", (4000, 1024), (Slow(),), Cast(GGMLType.F32)),))
cli.app = lambda: write_files([Output(plan, Path(sys.argv[1]))], WriteOptions(threads=1))
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to another process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing(tmp_path: Path, name: str) -> None:
    """The real thing: a process that is interrupted in the middle."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    (tmp_path / "out").mkdir()
    process = subprocess.Popen([sys.executable, script, tmp_path / "out" / "a.gguf"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert list((tmp_path / "out").iterdir()), "it is under way"
    started = time.monotonic()
    process.send_signal(signal.Signals[name])
    assert process.wait(timeout=20) != 0
    assert time.monotonic() - started < 10
    assert list((tmp_path / "out").iterdir()) == []
