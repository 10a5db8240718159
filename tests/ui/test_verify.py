"""`nemotron verify` finds what is damaged or missing and says so in one line a fault."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nemotron_gguf.convert import FilePlan, Output, TensorPlan, write_files
from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.convert.writer import digest
from nemotron_gguf.convert.writer.digest import read_sidecar, sidecar_path, write_sidecar
from nemotron_gguf.convert.writer.split import split_files
from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, ValueType, string
from nemotron_gguf.quant import ggml_base, plan_of_file
from nemotron_gguf.ui import console, verify

PARTS = 3


@dataclass(frozen=True)
class Ended:
    status: int
    lines: list[str]
    err: str

    @property
    def json(self) -> Any:
        return json.loads("\n".join(self.lines))


@dataclass(frozen=True)
class Constant:
    """Rows of one number."""

    n_rows: int
    number: float = 1.0
    n_per_row: int = 64
    type: GGMLType = GGMLType.F32

    def read(self, first: int, last: int) -> Rows:
        return np.full((last - first, self.n_per_row), self.number, np.float32).view(np.uint8)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    """`nemotron verify`, as the command line has it."""
    app = typer.Typer()
    verify.register(app)
    app.command("other")(lambda: None)
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str | Path) -> Ended:
        result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        return Ended(result.exit_code, result.stdout.splitlines(), result.stderr)

    return go


def plan(metadata: Mapping[str, Value] | None = None, numbers: Mapping[str, float] | None = None) -> FilePlan:
    names = numbers or {"a": 1.0, "b": 2.0, "c": 3.0}
    tensors = [
        TensorPlan(name, (4, 64), (Constant(4, number),), Cast(GGMLType.F32 if name != "half" else GGMLType.BF16))
        for name, number in names.items()
    ]
    return FilePlan(metadata or {"general.architecture": string("test")}, tuple(tensors))


def make(path: Path, made: FilePlan | None = None, sidecar: bool = True) -> Path:
    write_files([Output(made or plan(), path)])
    sidecar_path(path).unlink(missing_ok=True)
    if sidecar:
        write_sidecar(path, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def parts_of(folder: Path, made: FilePlan | None = None, name: str = "m.gguf") -> list[Path]:
    """A model of three tensors in three parts."""
    return [make(path, part) for part, path in split_files(made or plan(), folder / name, 1024)]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_sound_file(run: Callable[..., Ended], tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf")
    ended = run("a.gguf")
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines == [f"a.gguf  {console.size(path.stat().st_size)}  sound"]


def test_json_tells_all(run: Callable[..., Ended], tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf")
    make(tmp_path / "b.gguf", sidecar=False)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    shared = {"sound": True, "bytes": path.stat().st_size, "sha256": sha256, "problems": []}
    ended = run("a.gguf", "b.gguf", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json == {
        "sound": True,
        "numbers_checked": True,
        "files": [
            {"path": "a.gguf", **shared, "checksum": "matches"},
            {"path": "b.gguf", **shared, "checksum": "missing"},
        ],
    }
    path.unlink()
    ended = run("a.gguf", "--json")
    assert ended.status == 1
    (entry,) = ended.json["files"]
    assert (entry["sound"], entry["bytes"], entry["sha256"], entry["checksum"]) == (False, None, None, None)
    assert "No such file" in entry["problems"][0]


def test_without_a_checksum_it_says_what_that_means(run: Callable[..., Ended], tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf", sidecar=False)
    flip(path, path.stat().st_size - 64)  # 3.0 becomes another number: nobody can know
    ended = run(path)
    assert ended.status == 0
    assert "sound by its structure and numbers alone" in ended.lines[0]
    assert "--checksums writes a.gguf.sha256" in ended.lines[0]
    assert not sidecar_path(path).exists()


def test_checksums_are_written_where_they_are_missing(run: Callable[..., Ended], tmp_path: Path) -> None:
    new, old = make(tmp_path / "a.gguf", sidecar=False), make(tmp_path / "b.gguf")
    broken = make(tmp_path / "c.gguf", plan(numbers={"x": np.nan}), sidecar=False)
    before = sidecar_path(old).stat().st_mtime_ns
    ended = run("--checksums", new, old, broken)
    assert ended.status == 1
    assert "a.gguf.sha256 written" in ended.lines[0]
    assert ended.lines[1].endswith("sound")
    assert read_sidecar(new) == hashlib.sha256(new.read_bytes()).hexdigest()
    assert sidecar_path(old).stat().st_mtime_ns == before
    assert not sidecar_path(broken).exists()
    assert run(new).lines[0].endswith("sound")


def test_a_checksum_that_differs_is_never_replaced(run: Callable[..., Ended], tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf")
    flip(path, path.stat().st_size - 64)
    before = sidecar_path(path).read_bytes()
    ended = run("--checksums", path)
    assert ended.status == 1
    assert "FAILED: its SHA-256 is" in ended.lines[0]
    assert sidecar_path(path).read_bytes() == before


def test_a_flipped_bit_anywhere_is_found(run: Callable[..., Ended], tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf")
    whole = path.read_bytes()
    for at in range(0, len(whole), 53):
        flip(path, at)
        ended = run(path)
        assert ended.status == 1, at
        assert [line for line in ended.lines if "FAILED: " in line] == ended.lines, at
        assert ended.err.count("\n") == 1
        path.write_bytes(whole)
    flip(sidecar_path(path), 5)
    assert run(path).status == 1


def test_a_file_cut_anywhere_is_found(run: Callable[..., Ended], tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf")
    size = path.stat().st_size
    for length in (0, 3, 30, 90, size // 2, size - 1):
        os.truncate(path, length)
        assert run(path).status == 1, length
        shutil.copy(make(tmp_path / "again.gguf", sidecar=False), path)
        (tmp_path / "again.gguf").unlink()
    with path.open("ab") as file:
        file.write(b"\0")
    assert run(path).status == 1


def test_what_is_no_file(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_bytes(b"hello, world")
    (tmp_path / "folder.gguf").mkdir()
    good = make(tmp_path / "good.gguf")
    ended = run("text.gguf", "folder.gguf", "none.gguf", good)
    assert ended.status == 1
    assert [line.split("  ")[0] for line in ended.lines] == ["text.gguf", "folder.gguf", "none.gguf", str(good)]
    assert ended.lines[3].endswith("sound")
    assert "3 of 4 files" in ended.err


@pytest.mark.parametrize("raw", [b"", b"what?\n", b"0" * 64 + b"  other.gguf\n"])
def test_a_sidecar_that_is_none_is_a_fault(run: Callable[..., Ended], tmp_path: Path, raw: bytes) -> None:
    path = make(tmp_path / "a.gguf")
    sidecar_path(path).write_bytes(raw)
    ended = run(path, "--json")
    assert ended.status == 1
    assert ended.json["files"][0]["checksum"] == "unreadable"
    assert "a.gguf.sha256 is" in ended.json["files"][0]["problems"][0]


def test_numbers_that_are_none_are_found_by_tensor(run: Callable[..., Ended], tmp_path: Path) -> None:
    made = plan(numbers={"fine": 1.0, "nan": np.nan, "half": np.inf})
    ended = run(make(tmp_path / "a.gguf", made, sidecar=False))
    assert ended.status == 1
    assert [line.rpartition("FAILED: ")[2] for line in ended.lines] == [
        "tensor nan holds a NaN or an infinity",
        "tensor half holds a NaN or an infinity",
    ]


def test_a_block_whose_scale_is_none(run: Callable[..., Ended], tmp_path: Path, demo_q8: Path) -> None:
    path = tmp_path / "demo.gguf"
    shutil.copy(demo_q8, path)
    tensor = next(t for t in read_gguf(path).tensors if t.type is GGMLType.Q8_0 and len(t.shape) == 3)
    with path.open("r+b") as file:
        file.seek(tensor.offset + tensor.nbytes - 34)
        file.write(np.array([np.nan], np.float16).tobytes())
    ended = run(path)
    assert ended.status == 1
    assert ended.lines == [f"{path}  FAILED: tensor {tensor.name} holds a NaN or an infinity"]


@pytest.mark.parametrize("piece", [256, 1000, 12345, digest.PIECE])
def test_blocks_of_every_type_whatever_the_pieces(
    run: Callable[..., Ended], demo_q4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """A piece never cuts a block in two, and the checksum is of all bytes all the same."""
    monkeypatch.setattr(digest, "PIECE", max(piece, 256))
    path = tmp_path / "demo.gguf"
    shutil.copy(demo_q4, path)
    if piece < 1000:  # a piece for every few blocks: the small tensors are enough
        tensors = tuple(t for t in plan_of_file(demo_q4).tensors if t.nbytes < 50_000)
        make(path := tmp_path / "small.gguf", FilePlan({}, tensors), sidecar=False)
    ended = run(path, "--json")
    assert ended.status == 0
    assert ended.json["files"][0]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_ggml_the_rest_is_checked(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise NemotronError("llama-cpp-python is not installed")

    monkeypatch.setattr(ggml_base, "library", missing)
    path = make(tmp_path / "a.gguf")
    ended = run(path)
    assert (ended.status, ended.lines[0][-5:]) == (0, "sound")
    assert "numbers are not checked: llama-cpp-python is not installed" in ended.err
    assert not run(path, "--json").json["numbers_checked"]
    flip(path, path.stat().st_size - 64)
    assert run(path).status == 1
    sidecar_path(path).unlink()
    assert "sound by its structure alone" in run(path).lines[0]


def test_a_checksum_that_cannot_be_written(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self), None, str(target))

    path = make(tmp_path / "a.gguf", sidecar=False)
    monkeypatch.setattr(Path, "replace", full)
    ended = run("--checksums", "a.gguf")
    assert (ended.status, ended.lines) == (1, ["a.gguf  FAILED: writing a.gguf.sha256 failed: No space left on device"])
    assert not sidecar_path(path).exists()


def test_a_file_is_read_once(run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    pieces = digest.read_pieces

    def counted(path: Path, sizes: Any) -> Any:
        read.append(path)
        return pieces(path, sizes)

    monkeypatch.setattr(digest, "read_pieces", counted)
    paths = [make(tmp_path / "a.gguf"), *parts_of(tmp_path)]
    assert run(*paths, "--checksums").status == 0
    assert read == paths


def test_any_part_stands_for_all(run: Callable[..., Ended], tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    assert len(parts) == PARTS
    for given in (parts[:1], parts[2:], parts):
        ended = run(*given)
        assert ended.status == 0
        assert [line.split("  ")[0] for line in ended.lines] == [str(part) for part in parts]
        assert all(line.endswith("sound") for line in ended.lines)


def test_parts_that_are_missing(run: Callable[..., Ended], tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    parts[1].unlink()
    ended = run(parts[0])
    assert ended.status == 1
    assert ended.lines[0] == f"{parts[0]}  FAILED: 1 of its 3 parts missing: m-00002-of-00003.gguf"
    assert ended.lines[1].endswith("sound")
    flip(parts[0], parts[0].stat().st_size - 1)  # and what is there is read all the same
    assert [line.rpartition("FAILED: ")[2].split()[0] for line in run(parts[0]).lines] == ["1", "its", str(parts[2])]
    parts[0].unlink()
    ended = run(parts[2])
    assert ended.status == 1
    assert "No such file" in ended.lines[0]
    assert "m-00002-of-00003.gguf" in ended.lines[1]


def test_a_name_that_promises_too_much_is_still_one_line(run: Callable[..., Ended], tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    parts[0].rename(tmp_path / "m-00001-of-09999.gguf")
    ended = run("m-00001-of-09999.gguf")
    assert ended.status == 1
    assert "9998 of its 9999 parts missing: m-00002-of-09999.gguf, m-00003-of-09999.gguf, m-00004" in "".join(
        ended.lines
    )
    assert len("".join(ended.lines)) < 500


def test_parts_in_each_others_place(run: Callable[..., Ended], tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    for path in parts:
        sidecar_path(path).unlink()
    parts[1].rename(tmp_path / "x")
    parts[2].rename(parts[1])
    (tmp_path / "x").rename(parts[2])
    ended = run(parts[0])
    assert ended.status == 1
    assert ended.lines[1] == f"{parts[1]}  FAILED: split.no is 2 (uint16), expected 1 (uint16) by its name"
    assert ended.lines[2] == f"{parts[2]}  FAILED: split.no is 1 (uint16), expected 2 (uint16) by its name"


def test_a_part_of_another_model(run: Callable[..., Ended], tmp_path: Path) -> None:
    """Its checksum is right, its tensors are not those that are missing."""
    parts = parts_of(tmp_path)
    (tmp_path / "other").mkdir()
    same = parts_of(tmp_path / "other", plan(numbers={"a": 1.0, "c": 2.0, "d": 3.0}))
    shutil.copy(same[1], parts[1])
    sidecar_path(parts[1]).unlink()
    ended = run(parts[0])
    assert ended.status == 1
    assert ended.lines[0] == f"{parts[0]}  FAILED: tensors in more than one part: 1"


def test_tensors_that_are_in_no_part(run: Callable[..., Ended], tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    last = plan_of_part(parts[2])
    for path in (parts[2], sidecar_path(parts[2])):
        path.unlink()
    make(parts[2], FilePlan(last.metadata, (*last.tensors, *plan(numbers={"d": 1.0}).tensors)))
    ended = run(parts[0])
    assert ended.status == 1
    assert ended.lines == [f"{part}  FAILED: split.tensors.count is 3, the parts have 4" for part in parts]


def plan_of_part(path: Path) -> FilePlan:
    """The plan of one part alone, split keys included."""
    file = read_gguf(path)
    tensors = [TensorPlan(t.name, t.shape, (Constant(4),), Cast(t.type)) for t in file.tensors]
    return FilePlan(file.metadata, tuple(tensors))


@pytest.mark.parametrize(
    ("name", "metadata", "words"),
    [
        ("m-00001-of-00001.gguf", {}, None),
        ("m-00001-of-00001.gguf", {"split.no": 0, "split.count": 1}, None),
        ("merged.gguf", {"split.no": 0, "split.count": 0}, None),
        ("m.gguf", {"split.no": 0, "split.count": 3}, "split.count is 3 (uint16), expected 1"),
        ("m.gguf", {"split.no": 2, "split.count": 3}, "split.no is 2 (uint16), expected 0"),
        ("m-00001-of-00002.gguf", {}, "split.no is missing, expected 0"),
        ("m-00001-of-00002.gguf", {"split.no": 0, "split.count": 3}, "split.count is 3 (uint16), expected 2"),
        ("m-00001-of-00002.gguf", {"split.no": True, "split.count": "two"}, "split.no is True (bool), expected 0"),
        ("m-00001-of-00002.gguf", {"split.no": 0, "split.count": "\x1b" * 999}, r"split.count is '\x1b"),
    ],
)
def test_keys_against_the_name(
    run: Callable[..., Ended], tmp_path: Path, name: str, metadata: Mapping[str, Any], words: str | None
) -> None:
    kinds = {int: ValueType.UINT16, bool: ValueType.BOOL, str: ValueType.STRING}
    keys = {key: Value(kinds[type(value)], value) for key, value in metadata.items()}
    path = make(tmp_path / name, plan({"general.architecture": string("test"), **keys}))
    ended = run(path)
    assert ended.status == (words is not None)
    if words:
        assert words in "\n".join(ended.lines)
        assert all(line.isprintable() and len(line) < 300 for line in ended.lines)


def test_a_damaged_part_says_nothing_of_the_others(run: Callable[..., Ended], tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    flip(parts[1], 0)
    ended = run(parts[0])
    assert ended.status == 1
    assert ["  FAILED: " in line for line in ended.lines] == [False, True, False]


def test_the_bar_counts_every_byte(run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is a bar, elsewhere nothing."""
    from io import StringIO

    from rich.console import Console

    path = make(tmp_path / "a.gguf")
    shown = StringIO()
    monkeypatch.setattr(console, "stderr", lambda: Console(file=shown, force_terminal=True, width=120))
    assert run(path).status == 0
    size = f"{path.stat().st_size / 1000:.1f}"
    assert f"{size}/{size} kB" in shown.getvalue()
    shown.truncate(0)
    assert run(path, "--json").status == 0
    assert "kB" not in shown.getvalue()
