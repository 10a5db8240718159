"""Importance fitted to widths, neurons to spare, and quantizers that meet columns of no importance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from nemotron_gguf.convert import FilePlan, Output, TensorPlan, write_files
from nemotron_gguf.convert.cast import Cast
from nemotron_gguf.convert.plan import Rows
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, ValueType, array, string, u32
from nemotron_gguf.models.imatrix import Imatrix, read_imatrix
from nemotron_gguf.quant import QuantError, QuantizeOptions, choose_neurons, file_type, plan_quantization
from nemotron_gguf.quant.encode import Quantize
from nemotron_gguf.quant.ggml_base import ENCODABLE, _by_library, dequantize_rows, quantize_rows

Floats = npt.NDArray[np.float32]
N_EXPERTS, HIDDEN, WIDTH = 3, 224, 304
UP, DOWN = "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"


class Memory:
    """Rows of an array in memory, as a source."""

    type = GGMLType.F32

    def __init__(self, values: Any) -> None:
        self.values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, np.shape(values)[-1])
        self.n_rows, self.n_per_row = self.values.shape

    def read(self, first: int, last: int) -> Rows:
        return self.values[first:last].view(np.uint8)


def model() -> tuple[FilePlan, dict[str, Floats]]:
    """One layer of experts with neurons of very different strength."""
    rng = np.random.default_rng(5)
    values = {
        "token_embd.weight": rng.standard_normal((8, HIDDEN)).astype(np.float32),
        "output_norm.weight": np.ones(HIDDEN, np.float32),
        UP: rng.standard_normal((N_EXPERTS, WIDTH, HIDDEN)).astype(np.float32),
        DOWN: (rng.standard_normal((N_EXPERTS, HIDDEN, WIDTH)) * rng.gamma(1, 1, (N_EXPERTS, 1, WIDTH))).astype("f4"),
    }
    keys: dict[str, Value] = {"block_count": u32(1), "embedding_length": u32(HIDDEN), "expert_count": u32(N_EXPERTS)}
    keys |= {"expert_feed_forward_length": u32(WIDTH), "feed_forward_length": array(ValueType.INT32, [WIDTH])}
    metadata = {"general.architecture": string("nemotron_h_moe"), **{f"nemotron_h_moe.{k}": v for k, v in keys.items()}}
    tensors = [TensorPlan(name, np.shape(of), (Memory(of),), Cast(GGMLType.F32)) for name, of in values.items()]
    return FilePlan(metadata, tuple(tensors)), values


def imatrix(path: Path, counts: tuple[int, ...] = (4, 5, 6), width: int = WIDTH) -> tuple[Imatrix, Floats]:
    """As llama-imatrix writes it, and the means that it stands for."""
    rng = np.random.default_rng(6)
    writer = gguf.GGUFWriter(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["a.txt"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, columns in ((UP, HIDDEN), (DOWN, width)):
        sums = rng.gamma(0.3, 2, (N_EXPERTS, columns)).astype(np.float32)
        writer.add_tensor(f"{name}.in_sum2", sums)
        writer.add_tensor(f"{name}.counts", np.array(counts, np.float32)[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    means = (sums / np.maximum(np.array(counts)[:, None], 1)).astype(np.float32)
    return read_imatrix(path), means


def importance(plan: FilePlan, name: str, matrix: int) -> Floats:
    encoder = next(t.encoder for t in plan.tensors if t.name == name)
    assert isinstance(encoder, Quantize)
    assert encoder.importance is not None
    return encoder.importance.of(matrix)


def test_padded_columns_have_no_importance(tmp_path: Path) -> None:
    found, means = imatrix(tmp_path / "i.gguf")
    plan = plan_quantization(model()[0], QuantizeOptions(file_type("Q3_K_S"), found, pad="all"))
    for expert in range(N_EXPERTS):
        assert np.array_equal(importance(plan, DOWN, expert), np.pad(means[expert], (0, 512 - WIDTH)))


def test_importance_of_the_padded_model_fits_too(tmp_path: Path) -> None:
    found, means = imatrix(tmp_path / "i.gguf", width=512)
    entries = {DOWN: found.entries[DOWN]}
    plan = plan_quantization(model()[0], QuantizeOptions(file_type("Q3_K_S"), Imatrix("i", entries, (), 1), pad="all"))
    assert np.array_equal(importance(plan, DOWN, 2), means[2])


def test_a_file_that_was_padded_earlier(tmp_path: Path) -> None:
    """Its keys tell which width an importance matrix of the published model has."""
    from nemotron_gguf.quant import plan_of_file

    write_files(
        [Output(plan_quantization(model()[0], QuantizeOptions(file_type("F32"), pad="all")), tmp_path / "p.gguf")]
    )
    found, means = imatrix(tmp_path / "i.gguf")
    plan = plan_quantization(plan_of_file(tmp_path / "p.gguf"), QuantizeOptions(file_type("Q3_K_S"), found, pad="auto"))
    assert np.array_equal(importance(plan, DOWN, 1), np.pad(means[1], (0, 512 - WIDTH)))


def test_any_other_width_is_refused_with_both(tmp_path: Path) -> None:
    found, _ = imatrix(tmp_path / "i.gguf", width=320)
    with pytest.raises(QuantError, match=r"960 values for .*, expected 1536 or 912 \(rows of 512, 304 before"):
        plan_quantization(model()[0], QuantizeOptions(file_type("Q3_K_S"), found, pad="all"))


def test_the_neurons_that_stay_are_the_dearest(tmp_path: Path) -> None:
    """By the output error of leaving each out, computed here column by column in float64."""
    plan, values = model()
    found, means = imatrix(tmp_path / "i.gguf")
    seen: list[int] = []
    trim = choose_neurons(plan, found, report=lambda done, total, _: seen.append(done - total))
    assert seen[-1] == 0
    down = values[DOWN].astype(np.float64)
    costs = np.array([[means[e, j] * (down[e, :, j] ** 2).sum() for j in range(WIDTH)] for e in range(N_EXPERTS)])
    for expert in range(N_EXPERTS):
        left_out = sorted(set(range(WIDTH)) - set(trim.kept[DOWN][expert].tolist()))
        assert left_out == sorted(np.argsort(costs[expert])[: WIDTH - 256].tolist())
    lost = np.sort(costs, axis=1)[:, : WIDTH - 256].sum() / costs.sum()
    assert trim.error == pytest.approx(lost, rel=1e-6)
    quantized = plan_quantization(plan, QuantizeOptions(file_type("Q3_K_S"), found, pad="all", trim=trim))
    for expert in range(N_EXPERTS):
        assert np.array_equal(importance(quantized, DOWN, expert), means[expert, trim.kept[DOWN][expert]])
    write_files([Output(quantized, tmp_path / "t.gguf")])
    file = read_gguf(tmp_path / "t.gguf")
    assert file.get("nemotron_gguf.trimmed_error") == pytest.approx(lost, rel=1e-6)
    assert {t.name: t.shape for t in file.tensors}[DOWN] == (N_EXPERTS, 256, 256)
    assert any("larger" in note for note in quantized.notes)


def test_trimming_needs_to_know_every_expert(tmp_path: Path) -> None:
    plan, _ = model()
    found, _ = imatrix(tmp_path / "i.gguf", counts=(4, 0, 6))
    with pytest.raises(QuantError, match="never saw 1 of the 3 experts"):
        choose_neurons(plan, found)
    with pytest.raises(QuantError, match="says nothing of"):
        choose_neurons(plan, Imatrix("i", {}, (), 1))
    with pytest.raises(QuantError, match="no width of its experts"):
        choose_neurons(plan, found, block=304)


WEIGHTED = sorted(kind for kind in ENCODABLE if kind.is_quantized)
WITHOUT_ZERO = (  # whose grids hold no zero: beside other weights a zero becomes something small
    *(GGMLType.IQ1_S, GGMLType.IQ1_M, GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ2_S),
    *(GGMLType.IQ3_XXS, GGMLType.IQ3_S),
)


@pytest.mark.parametrize("kind", WEIGHTED, ids=lambda kind: kind.name)
def test_columns_and_rows_of_zeros(kind: GGMLType) -> None:
    """As padding makes them: ggml's bits; a row of zeros stays one, columns of zeros stay what a zero can be."""
    rng = np.random.default_rng(9)
    real, wide = 256 + 128, 2 * 256
    values = np.zeros((2, wide), np.float32)
    values[0, :real] = rng.standard_normal(real) * rng.choice([0.02, 0.3], real)
    weights = np.zeros(wide, np.float32)
    weights[:real] = rng.gamma(0.3, 2, real)
    blocks = quantize_rows(kind, values, weights)
    assert np.array_equal(blocks, _by_library(kind, values, weights))
    decoded = dequantize_rows(kind, blocks, wide)
    assert np.isfinite(decoded).all()
    assert not decoded[1].any()
    appended = np.abs(decoded[0, real:]).max()
    if kind in WITHOUT_ZERO:
        assert appended < values[0].std() / 2
    else:
        assert appended == 0
