"""The plan of a quantized file: keys, order, encoders, notes, and memory that does not grow with tensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.convert import ConvertError, FilePlan, Output, TensorPlan, write_files
from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, array, string, u32
from nemotron_gguf.models.gguf_values import ValueType as V
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.quant import QuantError, QuantizeOptions, file_type, plan_of_file, plan_quantization


class Memory:
    """Rows of an array in memory, as a source."""

    type = GGMLType.F32

    def __init__(self, values: Any) -> None:
        self.values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, np.shape(values)[-1])
        self.n_rows, self.n_per_row = self.values.shape

    def read(self, first: int, last: int) -> Rows:
        return self.values[first:last].view(np.uint8)


def header(**more: Value) -> dict[str, Value]:
    keys = {"general.file_type": u32(1), "general.architecture": string("nemotron_h")}
    return {**keys, "nemotron_h.block_count": u32(4), **{key.replace("__", "."): value for key, value in more.items()}}


def plan_of(stored: GGMLType = GGMLType.F32, **tensors: Any) -> FilePlan:
    plans = [
        TensorPlan(name.replace("__", "."), np.shape(values), (Memory(values),), Cast(stored))
        for name, values in tensors.items()
    ]
    return FilePlan(header(), tuple(plans))


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_keys_move_to_the_end() -> None:
    """The file type and the version of quantization, in llama.cpp's order, whatever was there before."""
    metadata = plan_quantization(plan_of(), QuantizeOptions(file_type("Q8_0"))).metadata
    assert list(metadata)[-2:] == ["general.quantization_version", "general.file_type"]
    assert (metadata["general.file_type"], metadata["general.quantization_version"]) == (u32(7), u32(2))


def test_one_pass_equals_two(tmp_path: Path) -> None:
    """A transform and a cast before the blocks: built at once, or converted to a file that is then quantized."""
    weight = TensorPlan("blk.0.ssm_in.weight", (40, 256), (Memory(normal(40, 256)),), Cast(GGMLType.BF16), np.exp)
    plan = FilePlan(header(), (weight,))
    options = QuantizeOptions(file_type("Q4_K_M"))
    write_files([Output(plan, tmp_path / "converted.gguf")])
    write_files([Output(plan_quantization(plan, options), tmp_path / "built.gguf")])
    again = plan_quantization(plan_of_file(tmp_path / "converted.gguf"), options)
    write_files([Output(again, tmp_path / "quantized.gguf")])
    assert (tmp_path / "built.gguf").read_bytes() == (tmp_path / "quantized.gguf").read_bytes()
    assert read_gguf(tmp_path / "built.gguf").tensors[0].type is GGMLType.Q4_K


def test_describe_reads_no_weights() -> None:
    """What `--dry-run --json` prints; the source would fail when read."""
    source = Memory(normal(8, 256))
    source.read = None  # type: ignore[method-assign, assignment]
    plan = FilePlan(header(), (TensorPlan("a.weight", (8, 256), (source,), Cast(GGMLType.F32)),))
    described = plan_quantization(plan, QuantizeOptions(file_type("Q8_0"))).describe()
    assert described["tensors"] == [{"name": "a.weight", "shape": [8, 256], "type": "Q8_0", "bytes": 8 * 8 * 34}]


def test_missing_importance() -> None:
    """An error that names the tensor; for a plan that is only looked at, a note."""
    plan, low = plan_of(blk__0__ssm_in__weight=normal(4, 256)), file_type("IQ2_XXS")
    with pytest.raises(QuantError, match=r"blk\.0\.ssm_in\.weight becomes garbage as IQ2_XXS"):
        plan_quantization(plan, QuantizeOptions(low))
    looked_at = plan_quantization(plan, QuantizeOptions(low, dry_run=True))
    assert looked_at.tensors[0].type is GGMLType.IQ2_XXS
    assert looked_at.notes == ("an importance matrix (--imatrix) is needed for blk.0.ssm_in.weight",)


@pytest.mark.parametrize("kind", [GGMLType.IQ2_XXS, GGMLType.IQ1_S])
def test_explicit_types_that_need_importance(kind: GGMLType) -> None:
    """llama.cpp's rules excuse the embedding, and its process aborts; here it is an error."""
    options = QuantizeOptions(file_type("Q4_K_M"), token_embedding_type=kind)
    with pytest.raises(QuantError, match=r"token_embd\.weight becomes garbage"):
        plan_quantization(plan_of(token_embd__weight=normal(4, 256), output__weight=normal(4, 256)), options)


def test_sources_that_are_no_weights() -> None:
    """Integers, and more dimensions than llama.cpp's quantizer knows."""
    options = QuantizeOptions(file_type("Q8_0"))
    whole = TensorPlan("a.weight", (2, 32), (Memory(normal(2, 32)),), Cast(GGMLType.I32))
    with pytest.raises(QuantError, match="of type I32"):
        plan_quantization(FilePlan(header(), (whole,)), options)
    with pytest.raises(QuantError, match="at most 3 dimensions"):
        plan_quantization(plan_of(a__weight=normal(2, 2, 2, 32)), options)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"general__architecture": u32(3)}, "no general.architecture"),
        ({"general__architecture": string("falcon")}, "falcon have rules of their own"),
        ({"nemotron_h__block_count": u32(0)}, "block_count is 0"),
        ({"nemotron_h__block_count": string("four")}, "block_count is 'four'"),
        ({"nemotron_h__expert_count": Value(V.INT32, -1)}, "expert_count is -1"),
        ({"nemotron_h__attention__head_count": array(V.STRING, ["a"])}, "head_count is 'a'"),
    ],
)
def test_headers_that_do_not_say_what_the_model_is(keys: dict[str, Value], message: str) -> None:
    plan = FilePlan(header(**keys), plan_of(a__weight=normal(2, 32)).tensors)
    with pytest.raises(QuantError, match=message):
        plan_quantization(plan, QuantizeOptions(file_type("Q8_0")))


def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    """Cut after it was planned: an error, and no file."""
    source = tmp_path / "source.gguf"
    write_files([Output(plan_of(a__weight=normal(64, 256)), source)])
    plan = plan_quantization(plan_of_file(source), QuantizeOptions(file_type("Q8_0")))
    source.write_bytes(source.read_bytes()[:-4096])
    with pytest.raises(ModelError, match="changed while it was being read"):
        write_files([Output(plan, tmp_path / "out.gguf")])
    assert list(tmp_path.glob("out*")) == []


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    """The file to be read is never replaced unasked."""
    source = tmp_path / "source.gguf"
    write_files([Output(plan_of(a__weight=normal(64, 256)), source)])
    before = source.read_bytes()
    with pytest.raises(ConvertError, match="exists and is kept"):
        write_files([Output(plan_quantization(plan_of_file(source), QuantizeOptions(file_type("Q8_0"))), source)])
    assert source.read_bytes() == before


MEASURE = """
import resource, sys
from nemotron_gguf.convert import Output, WriteOptions, write_files
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization
plan = plan_quantization(plan_of_file(sys.argv[1]), QuantizeOptions(file_type("Q8_0")))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from pathlib import Path
write_files([Output(plan, Path(sys.argv[2]))], WriteOptions(threads=2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read from the resource module")
def test_memory_does_not_grow_with_tensors(tmp_path: Path) -> None:
    """A tensor of 256 MiB in F32 takes less than a quarter of that, in a process with two threads."""
    source = tmp_path / "large.gguf"
    made = encode_header(header(), [("blk.0.ssm_in.weight", (1 << 14, 1 << 12), GGMLType.F32)])
    with source.open("wb") as file:
        file.write(made.data)
        file.truncate(made.file_size)
    command = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, encoding="utf-8")
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 64 << 20
