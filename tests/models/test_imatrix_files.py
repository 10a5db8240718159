"""Importance matrices, written, merged and described, against files of llama-imatrix (`tests/golden/imatrix`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.imatrix import (
    Imatrix,
    Partial,
    Sums,
    coverage_of,
    fill,
    merge,
    read_imatrix,
    read_partial,
    save_partial,
    statistics_of,
    write_imatrix,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "imatrix"
UP, DOWN = "blk.2.ffn_up_exps.weight", "blk.2.ffn_down_exps.weight"


def sums_of(matrix: Imatrix) -> dict[str, Sums]:
    return {name: entry.sums for name, entry in matrix.entries.items()}


def rewrite(name: str, target: Path) -> bytes:
    matrix = read_imatrix(GOLDEN / name)
    write_imatrix(
        target,
        sums_of(matrix),
        datasets=matrix.datasets,
        chunk_count=matrix.chunk_count,
        chunk_size=matrix.chunk_size,
    )
    return target.read_bytes()


@pytest.mark.parametrize("name", ["demo.gguf", "tiny-3.gguf", "tiny-16.gguf", "tiny-sum.gguf"])
def test_written_as_llama_imatrix_writes(name: str, tmp_path: Path) -> None:
    assert rewrite(name, tmp_path / "i.gguf") == (GOLDEN / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["i.gguf"]


def test_merged_as_llama_imatrix_merges() -> None:
    found = merge([read_imatrix(GOLDEN / "tiny-3.gguf"), read_imatrix(GOLDEN / "tiny-16.gguf")])
    expected = read_imatrix(GOLDEN / "tiny-sum.gguf")
    assert found.entries.keys() == expected.entries.keys()
    for name, sums in sums_of(expected).items():
        assert found.entries[name].counts.tolist() == sums.counts.tolist()
        np.testing.assert_allclose(found.entries[name].load(), sums.load(), rtol=1e-6)
    assert (found.datasets, found.chunk_size) == (expected.datasets, expected.chunk_size)
    assert found.chunk_count == expected.chunk_count


def test_statistics_are_llama_imatrix_s() -> None:
    ours = {one.name: one for one in statistics_of(sums_of(read_imatrix(GOLDEN / "demo.gguf")))}
    rows = (GOLDEN / "demo-statistics.txt").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(ours) == 36
    for row in rows:
        layer, kind, *cells = (cell.strip().removesuffix("%") for cell in row.split("\t"))
        one = ours[f"blk.{layer}.{kind}.weight"]
        found = (one.total, one.smallest, one.largest, one.mean, one.deviation, 100 * one.active, one.n_values,
                 one.entropy, 100 * one.entropy_share, 100 * one.high)  # fmt: skip
        for cell, number in zip(cells, found, strict=False):
            digits = len(cell.partition(".")[2])
            assert abs(float(cell) - number) <= 0.6 * 10**-digits + 1e-5 * abs(number), (row, one)


def test_cosine_is_with_the_layer_before_that_has_the_tensor() -> None:
    matrix = read_imatrix(GOLDEN / "demo.gguf")
    one, other = (matrix.entries[f"blk.{layer}.attn_q.weight"].sums.load().ravel() for layer in (3, 8))
    by_name = {one.name: one for one in statistics_of(sums_of(matrix))}
    assert by_name["blk.3.attn_q.weight"].cosine is None
    expected = float(one @ other / np.sqrt((one @ one) * (other @ other)))
    assert by_name["blk.8.attn_q.weight"].cosine == pytest.approx(expected, rel=1e-12)


def test_an_expert_that_was_not_reached_is_filled_and_named(tmp_path: Path) -> None:
    matrix = read_imatrix(GOLDEN / "tiny-3.gguf")
    empty = np.flatnonzero(matrix.entries[UP].counts == 0)
    assert len(empty) == 1, "the golden file has an expert that no token reached"
    filled, named = fill(sums_of(matrix))
    assert named == {UP: (empty[0],), DOWN: (empty[0],)}
    write_imatrix(tmp_path / "f.gguf", filled, datasets=matrix.datasets, chunk_count=3, chunk_size=64, filled=named)
    again = read_imatrix(tmp_path / "f.gguf")
    assert again.filled == named
    reached = matrix.entries[UP].sums
    mean = reached.load().sum(axis=0) / reached.counts.sum()
    columns = matrix.entries[UP].n_per_part
    first = int(empty[0]) * columns
    np.testing.assert_allclose(again.entries[UP].read(first, first + columns), mean, rtol=1e-6)
    assert again.entries[UP].counts[empty[0]] == 1
    (coverage,) = coverage_of({name: entry.sums.counts for name, entry in again.entries.items()}, again.filled)
    assert coverage.unreached == (empty[0],)
    assert coverage.smallest == 0
    merged = merge([again]).entries[UP]
    assert merged.counts[empty[0]] == 0, "what was filled in was not measured"
    assert not merged.load()[empty[0]].any()


def test_a_row_of_zeros_is_refused(tmp_path: Path) -> None:
    values = np.ones((3, 4))
    values[1] = 0
    silent = {"a.weight": Sums.of(values, np.array([5, 5, 5]))}
    write_imatrix(tmp_path / "z.gguf", silent, datasets=["t"], chunk_count=1, chunk_size=5)
    with pytest.raises(ModelError, match=r"importance of matrix 1 of a\.weight is zero"):
        read_imatrix(tmp_path / "z.gguf").check_rows("a.weight", 4)
    write_imatrix(tmp_path / "f.gguf", fill(silent)[0], datasets=["t"], chunk_count=1, chunk_size=5)
    read_imatrix(tmp_path / "f.gguf").check_rows("a.weight", 4)


@pytest.mark.parametrize("value", [-1.0, 2e30])
def test_what_no_mean_square_can_be_is_refused(tmp_path: Path, value: float) -> None:
    values = np.ones((1, 4))
    values[0, 2] = value
    write_imatrix(
        tmp_path / "w.gguf", {"a.weight": Sums.of(values, np.array([1]))}, datasets=["t"], chunk_count=1, chunk_size=5
    )
    with pytest.raises(ModelError, match=r"importance of a\.weight has the value .*, expected mean squares from 0"):
        read_imatrix(tmp_path / "w.gguf")


def test_what_is_unfinished_comes_back_to_the_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((2, 3)) ** 2
    save_partial(tmp_path / "p", Partial({"a": Sums.of(values, np.array([1 << 40, 0]))}, 7, "this"))
    found = read_partial(tmp_path / "p")
    assert (found.chunks_done, found.bound_to) == (7, "this")
    assert found.entries["a"].load().tobytes() == values.tobytes()
    assert found.entries["a"].counts.tolist() == [1 << 40, 0]
    with pytest.raises(ModelError, match="no unfinished importance matrix"):
        read_partial(GOLDEN / "demo.gguf")
    assert read_gguf(tmp_path / "p").get("general.type") == "imatrix.partial"


def test_sums_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.weight sees are not finite"):
        write_imatrix(
            tmp_path / "i.gguf",
            {"a.weight": Sums.of(np.array([[1e300]]), np.array([1]))},
            datasets=[],
            chunk_count=1,
            chunk_size=1,
        )
    assert not list(tmp_path.iterdir())
