"""What the preflight lets pass and what it returns; the files that it must refuse are in tests/hostile/gguf."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemotron_gguf.models.errors import ModelError, NemotronError
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, ValueType, string, u32
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.runner import NoModelError, RunnerError, check_model, inspect_model

ARCH = "nemotron_h_moe"


def test_the_sound_file_passes(tiny_gguf: Callable[..., Path]) -> None:
    file = inspect_model(tiny_gguf())
    assert (file.architecture, len(file.tensors)) == (ARCH, 24)
    check_model(file)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model" * 100, None])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path
    if content is not None:
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
    with pytest.raises(NemotronError):
        inspect_model(path)


def test_outer_dimensions_of_one_are_the_same_shape(tiny_gguf: Callable[..., Path]) -> None:
    """As libllama takes them, so that files of other makers pass."""
    path = tiny_gguf()
    name = b"output_norm.weight"
    data = path.read_bytes()
    at = data.index(name) + len(name)
    assert data[at : at + 12] == struct.pack("<IQ", 1, 64)
    longer = data[:at] + struct.pack("<IQQ", 2, 64, 1) + data[at + 12 :]
    start = read_gguf(path).tensors[0].offset
    head = longer[: start + 8].rstrip(b"\0")
    path.write_bytes(head + bytes(-len(head) % 32) + data[start:])
    assert inspect_model(path).architecture == ARCH


@dataclass
class Split:
    """A model in three files, whose keys can be spoiled part by part."""

    folder: Path
    source: Path

    def write(self, change: dict[int, dict[str, Value | None]] | None = None, twice: bool = False) -> Path:
        """The parts; returns the first."""
        whole = read_gguf(self.source)
        data = self.source.read_bytes()
        groups = [whole.tensors[:8], whole.tensors[8:16], whole.tensors[16:]]
        if twice:
            groups[2] = (*groups[2], groups[0][0])
        for number, group in enumerate(groups):
            keys: dict[str, Value | None] = {
                **(whole.metadata if not number else {}),
                "split.no": Value(ValueType.UINT16, number),
                "split.count": Value(ValueType.UINT16, 3),
                "split.tensors.count": Value(ValueType.INT32, len(whole.tensors)),
                **(change or {}).get(number, {}),
            }
            kept = {key: value for key, value in keys.items() if value is not None}
            header = encode_header(kept, [(tensor.name, tensor.shape, tensor.type) for tensor in group])
            out = bytearray(header.data.ljust(header.file_size, b"\0"))
            for tensor, offset in zip(group, header.offsets, strict=True):
                out[offset : offset + tensor.nbytes] = data[tensor.offset : tensor.offset + tensor.nbytes]
            self.folder.joinpath(f"m-{number + 1:05}-of-00003.gguf").write_bytes(out)
        return self.folder / "m-00001-of-00003.gguf"


@pytest.fixture
def split(tmp_path: Path, tiny_gguf: Callable[..., Path]) -> Split:
    return Split(tmp_path, tiny_gguf())


def test_parts_pass_as_one(split: Split) -> None:
    assert len(inspect_model(split.write()).tensors) == 24


U16, I32 = ValueType.UINT16, ValueType.INT32
SPOILED: dict[str, tuple[dict[int, dict[str, Value | None]], str]] = {
    "a number of another type": ({1: {"split.no": u32(1)}}, "split.no is UINT32, expected UINT16"),
    "a number of text": ({2: {"split.no": string("2")}}, "split.no is STRING"),
    "a count of another type": ({0: {"split.count": u32(3)}}, "split.count is UINT32"),
    "a sum of another type": ({0: {"split.tensors.count": u32(24)}}, "split.tensors.count is UINT32"),
    "no number": ({1: {"split.no": None}}, "says that it is part None"),
    "another part's number": ({1: {"split.no": Value(U16, 2)}}, "says that it is part 2"),
    "another count": ({2: {"split.count": Value(U16, 4)}}, "expected 2 of 3"),
    "a count of its own": ({0: {"split.count": Value(U16, 4)}}, "must be named NAME-00001-of-00004"),
    "a first that is not": ({0: {"split.no": Value(U16, 1)}}, "give the first"),
    "another sum": ({0: {"split.tensors.count": Value(I32, 25)}}, "24 tensors, 25 expected"),
    "no sum": ({0: {"split.tensors.count": None}}, "None expected"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_parts_that_do_not_belong_together(split: Split, name: str) -> None:
    change, words = SPOILED[name]
    with pytest.raises(ModelError, match=words) as caught:
        inspect_model(split.write(change))
    assert "\n" not in str(caught.value)


def test_a_tensor_in_two_parts(split: Split) -> None:
    with pytest.raises(ModelError, match="same name"):
        inspect_model(split.write(twice=True))


def test_a_part_that_is_missing(split: Split) -> None:
    first = split.write()
    first.with_name("m-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelError, match=r"m-00002-of-00003\.gguf: No such file"):
        inspect_model(first)


def test_a_part_that_is_cut(split: Split) -> None:
    first = split.write()
    second = first.with_name("m-00002-of-00003.gguf")
    second.write_bytes(second.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"m-00002-of-00003\.gguf is no sound GGUF file: .* truncated"):
        inspect_model(first)


def test_a_part_alone_is_no_model(split: Split) -> None:
    second = read_gguf(split.write().with_name("m-00002-of-00003.gguf"))
    with pytest.raises(NoModelError, match="part 2 of 3"):
        check_model(second)


def test_no_model_is_a_runner_error() -> None:
    assert issubclass(NoModelError, RunnerError)
