"""Split files are those of llama.cpp's own tool to the byte, load as one model, and become one file again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pytest

from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import FilePlan, Rows, TensorPlan
from nemotron_gguf.convert.writer.split import parse_size, split_files, split_path, split_plan
from nemotron_gguf.convert.writer.write import Output, write_files
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_parts import PartName, part_name, part_paths
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, ValueType, array, string, u32
from nemotron_gguf.quant import plan_of_file

SHAPES = ((500, 250), (125, 1000), (124993,), (125007,), (7,), (1, 3, 2), (250, 1000), (500, 1000), (1,), (1,))
METADATA = {
    "general.architecture": string("test"),
    "a.text": string("naïve café"),
    "a.list": array(ValueType.STRING, ["", "two", "三"]),
    "a.flags": array(ValueType.BOOL, [True, False]),
    "a.double": Value(ValueType.FLOAT64, 0.1),
    "z.last": u32(7),
}
GOLDEN = (  # `llama-gguf-split --split --split-max-size 1M` of llama.cpp 0.5.0 on the file of METADATA and SHAPES
    "ca5946a5ce12576a00d3841f1638cb71b51e6be447418e6135a0949f8a64634b",
    "a8988fa765aa4bea893f99d757c7b87b2631d6657769e452a4f635b7cc4b5859",
    "da9a273124e32883d1e6f1644e92b5f2ce023e891675b6740498bf39bd89354f",
    "4b2901500614923d59f851c807c62e18fc3ba0da475356564c4d90ba0dffd71c",
    "0d59b04de4ba064c2e1c4e1176272b0cf0a4432da61dffcb4ed32af3a0618d17",
    "76b10d093e0854210d89208e2a3dc730cc80a1121faa20c9572faa2241a9cbd3",
)


@dataclass(frozen=True)
class Counting:
    """Rows of the numbers 0, 1, 2, …"""

    n_rows: int
    n_per_row: int
    type: GGMLType = GGMLType.F32

    def read(self, first: int, last: int) -> Rows:
        numbers = np.arange(first * self.n_per_row, last * self.n_per_row, dtype=np.float32)
        return numbers.reshape(last - first, self.n_per_row).view(np.uint8)


class Unread(Counting):
    """Rows that nobody may ask for."""

    def read(self, first: int, last: int) -> Rows:
        raise AssertionError(f"rows {first} to {last} were read")


def plan_of(*shapes: tuple[int, ...], alignment: int = 32, rows: type[Counting] = Counting) -> FilePlan:
    tensors = [
        TensorPlan(f"t{index}.weight", shape, (rows(prod(shape[:-1]), shape[-1]),), Cast(GGMLType.F32))
        for index, shape in enumerate(shapes)
    ]
    metadata = METADATA if alignment == 32 else METADATA | {"general.alignment": u32(alignment)}
    return FilePlan(metadata, tuple(tensors), alignment)


def cuts(max_size: int, *weights: int) -> list[int]:
    """How many tensors, of so many F32 weights each, the parts have."""
    return [len(part.tensors) for part in split_plan(plan_of(*((n,) for n in weights), rows=Unread), max_size)]


def write_parts(plan: FilePlan, path: Path, max_size: int) -> list[Path]:
    files = split_files(plan, path, max_size)
    write_files([Output(part, target) for part, target in files])
    return [target for _, target in files]


def test_the_bytes_are_those_of_llama_gguf_split(tmp_path: Path) -> None:
    paths = write_parts(plan_of(*SHAPES), tmp_path / "NAME.gguf", parse_size("1M"))
    assert [path.name for path in paths] == [f"NAME-{number:05}-of-00006.gguf" for number in range(1, 7)]
    assert tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths) == GOLDEN


def test_keys_and_where_they_are() -> None:
    """All keys in the first part, those of the split after them in the tool's order; in the others these alone."""
    parts = split_plan(plan_of(*SHAPES), 1_000_000)
    split = ["split.no", "split.tensors.count", "split.count"]
    assert list(parts[0].metadata) == [*METADATA, *split]
    assert all(list(part.metadata) == split for part in parts[1:])
    for no, part in enumerate(parts):
        assert part.metadata["split.no"] == Value(ValueType.UINT16, no)
        assert part.metadata["split.count"] == Value(ValueType.UINT16, len(parts))
        assert part.metadata["split.tensors.count"] == Value(ValueType.INT32, len(SHAPES))


def test_keys_of_an_earlier_split_are_replaced() -> None:
    """A file that llama.cpp's tool merged says that it has 0 parts."""
    merged = plan_of((8,), (8,))
    merged = FilePlan({"split.count": Value(ValueType.UINT16, 0), **merged.metadata}, merged.tensors)
    first, _ = split_plan(merged, 32)
    assert next(iter(first.metadata)) == "general.architecture"
    assert first.metadata["split.count"] == Value(ValueType.UINT16, 2)


def test_where_a_part_ends() -> None:
    assert cuts(96, 8, 8, 8, 8) == [3, 1]  # full to the last byte
    assert cuts(95, 8, 8, 8, 8) == [2, 2]
    assert cuts(96, 9, 8, 8) == [2, 1]  # 36 bytes are 64 with their padding
    assert cuts(64, 8, 100, 8) == [1, 1, 1]  # one larger than a part is a part by itself
    assert cuts(64, 100, 8, 8, 8) == [1, 2, 1]  # the very first too
    assert cuts(64, 8, 8, 100) == [2, 1]
    assert cuts(1 << 40, *range(1, 50)) == [49]
    assert cuts(64, 8) == [1]
    assert cuts(64) == [0]


def test_what_cannot_be_split_is_one_clear_line() -> None:
    for size in (31, 1, 0, -5):
        with pytest.raises(
            ConvertError, match=rf"at most {size} bytes hold none of the 2 tensors, the smallest has 32"
        ):
            split_plan(plan_of((100,), (8,)), size)
    many = plan_of(*[(8,)] * 65537, rows=Unread)
    with pytest.raises(ConvertError, match=r"would be 65537, a file can have 65535; allow larger"):
        split_plan(many, 32)
    assert len(split_plan(FilePlan(METADATA, many.tensors[:65535]), 32)) == 65535


def test_a_file_that_fits_stays_one_file(tmp_path: Path) -> None:
    """The plan alone does as the tool does, which writes a part 1 of 1."""
    plan = plan_of((8,), (8,))
    assert split_files(plan, tmp_path / "a.gguf", 64) == [(plan, tmp_path / "a.gguf")]
    (only,) = split_plan(plan, 64)
    assert only.metadata["split.count"] == Value(ValueType.UINT16, 1)
    assert [path.name for _, path in split_files(plan, tmp_path / "a.gguf", 63)] == [
        "a-00001-of-00002.gguf",
        "a-00002-of-00002.gguf",
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20G", 20_000_000_000),
        ("500M", 500_000_000),
        ("3k", 3000),
        ("1000000", 1_000_000),
        (" 2g\n", 2_000_000_000),
        ("07M", 7_000_000),
    ],
)
def test_sizes_are_decimal(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "0G", "0", "-1G", "1.5G", "2 G", "20GB", "20GiB", "1T", "1e9", "0x10", "²G", "1_0M", "9" * 40]
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConvertError, match="such as 20G") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


def test_names() -> None:
    folder = Path("some") / "folder"
    path = split_path(folder / "Nemotron-3.5-Q4_K_M.gguf", 2, 7)
    assert path == folder / "Nemotron-3.5-Q4_K_M-00002-of-00007.gguf"
    assert part_name(path) == PartName("Nemotron-3.5-Q4_K_M", 2, 7)
    assert part_paths(path) == [split_path(folder / "Nemotron-3.5-Q4_K_M.gguf", n, 7) for n in range(1, 8)]
    odd = folder / "x.gguf-00001-of-00002.gguf"
    assert part_paths(odd) == [odd, folder / "x.gguf-00002-of-00002.gguf"]
    for name in ("a.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf", "a-1-of-2.gguf", "a-00001-of-00002.bin"):
        assert part_name(folder / name) is None
        assert part_paths(folder / name) == [folder / name]
    assert part_name(Path("a-00001-of-70000.gguf")) is None


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_the_parts_become_the_file_again(tmp_path: Path, alignment: int) -> None:
    """Other parts know nothing of the file's alignment and have the format's own."""
    plan = plan_of(*(shape for shape in SHAPES if shape[0] > 1), alignment=alignment)
    write_files([Output(plan, tmp_path / "whole.gguf")])
    first, *others = write_parts(plan, tmp_path / "parts.gguf", 1_000_000)
    assert [read_gguf(path).alignment for path in (first, others[0])] == [alignment, 32]
    write_files([Output(plan_of_file(first), tmp_path / "again.gguf")])
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_the_demo_model_in_parts_is_the_same_model(demo_q4: Path, tmp_path: Path) -> None:
    paths = write_parts(plan_of_file(demo_q4), tmp_path / "demo.gguf", 1_000_000)
    assert len(paths) >= 4
    assert all(sum(t.nbytes for t in read_gguf(path).tensors) <= 1_000_000 for path in paths)
    write_files([Output(plan_of_file(paths[0]), tmp_path / "again.gguf")])
    assert (tmp_path / "again.gguf").read_bytes() == demo_q4.read_bytes()
    assert spoken(paths[0]) == spoken(demo_q4)


def spoken(path: Path) -> tuple[list[int], bytes]:
    """32 tokens that libllama continues a text with, choosing the likeliest, and the logits of all."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=128, n_threads=1, n_threads_batch=1, n_gpu_layers=0, logits_all=True, verbose=False
    )
    tokens = model.tokenize(b"What is GGUF?", add_bos=True)
    start = len(tokens)
    model.eval(tokens)
    while len(tokens) < start + 32:
        tokens.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(tokens[-1:])
    logits = model.scores[: model.n_tokens].tobytes()
    model.close()
    return tokens[start:], logits
