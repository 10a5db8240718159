"""Widths changed: rows resized chunk by chunk, keys, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from nemotron_gguf.convert import ConvertError, FilePlan, Output, open_checkpoint, padded, plan_conversion, write_files
from nemotron_gguf.convert.widths.change import Change, new_widths, resized, widths_of
from nemotron_gguf.convert.widths.resize import Resize, Side
from nemotron_gguf.convert.writer import chunks, run
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import string, u32
from nemotron_gguf.models.widths import Dimension, Norms, padded_from, trimmed_from
from nemotron_gguf.quant import QuantizeOptions, Trimming, file_type, plan_of_file, plan_quantization
from nemotron_gguf.runner.preflight.check import inspect_model

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

Floats = npt.NDArray[np.float32]
HIDDEN, EXPERT, SHARED = Dimension.HIDDEN, Dimension.EXPERT, Dimension.SHARED
NANO = {HIDDEN: 2688, EXPERT: 1856, SHARED: 3712}


Plans = Callable[..., FilePlan]


@pytest.fixture
def conversion(checkpoints: Checkpoints) -> Iterator[Plans]:
    """The plan of a kind's conversion, its checkpoint open until the test ends."""
    with ExitStack() as stack:
        yield lambda kind, outtype="f32": plan_conversion(
            stack.enter_context(open_checkpoint(checkpoints.get(kind))), outtype
        )


def weights(path: Path) -> dict[str, Floats]:
    """Every tensor as the gguf package reads it."""
    return {t.name: np.array(gguf.quants.dequantize(t.data, t.tensor_type)) for t in gguf.GGUFReader(path).tensors}


def padded_to(values: Floats, shape: tuple[int, ...]) -> Floats:
    return np.pad(values, [(0, new - old) for old, new in zip(values.shape, shape, strict=True)])


@pytest.mark.parametrize("kept_rows", [False, True])
@pytest.mark.parametrize("kept_columns", [False, True])
def test_rows_of_any_chunk_find_their_places(kept_rows: bool, kept_columns: bool) -> None:
    """Two experts of 7 × 10, padded or with neurons left out: cut anywhere, the pieces make up the whole."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((2, 7, 10)).astype(np.float32)
    rows = np.array([[0, 2, 5], [1, 2, 6]]) if kept_rows else None
    columns = np.array([[1, 4, 8, 9], [0, 1, 2, 9]]) if kept_columns else None
    resize = Resize(Side(7, 3 if kept_rows else 9, rows), Side(10, 4 if kept_columns else 13, columns))
    taken = [matrix if rows is None else matrix[rows[i]] for i, matrix in enumerate(values)]
    taken = [matrix if columns is None else matrix[:, columns[i]] for i, matrix in enumerate(taken)]
    shape = (3 if kept_rows else 9, 4 if kept_columns else 13)
    expected = np.concatenate([padded_to(matrix, shape) for matrix in taken])
    flat = values.reshape(14, 10)
    for cuts in ([0, 14], [0, 1, 2, 3, 14], [0, 7, 14], [0, 6, 8, 14], list(range(15))):
        pieces = [resize.apply(flat[first:last], first) for first, last in pairwise(cuts)]
        assert np.array_equal(np.concatenate(pieces), expected)
        assert [resize.place(cut) for cut in cuts] == np.cumsum([0, *map(len, pieces)]).tolist()


@pytest.mark.parametrize("kind", ["moe-bf16", "mtp", "dense-bias"])
def test_weights_stay_and_zeros_surround_them(
    kind: str, conversion: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the norms' weights and epsilon changed every other weight keeps its bits, whatever the chunks are."""
    plan = conversion(kind, "bf16")
    write_files([Output(plan, tmp_path / "plain.gguf")])
    monkeypatch.setattr(chunks, "READ_WEIGHTS", 5000)
    monkeypatch.setattr(run, "ENCODE_WEIGHTS", 700)
    write_files([Output(padded(plan), tmp_path / "padded.gguf")])
    before, after = weights(tmp_path / "plain.gguf"), weights(tmp_path / "padded.gguf")
    hidden = widths_of(plan)[HIDDEN]
    changed = 0
    for name, values in before.items():
        found = after[name]
        changed += found.shape != values.shape
        if name.endswith("eh_proj.weight"):
            halves = [padded_to(half, (256, 256)) for half in np.split(values, 2, axis=1)]
            expected = np.concatenate(halves, axis=1)
        else:
            expected = padded_to(values, found.shape)
        if "norm.weight" in name and "ssm_norm" not in name:
            expected = expected * np.float32((hidden / 256) ** 0.5)
        assert np.array_equal(found, expected), name
    assert changed > 20
    one, other = read_gguf(tmp_path / "plain.gguf"), read_gguf(tmp_path / "padded.gguf")
    key = f"{one.architecture}.attention.layer_norm_rms_epsilon"
    key = key if key in one.metadata else key.replace("_rms", "")
    assert other.get(key) == pytest.approx(float(str(one.get(key))) * hidden / 256, rel=1e-6)


@pytest.mark.parametrize("kind", ["moe", "latent", "mtp", "dense", "dense-bias"])
def test_keys_tell_the_widths_and_what_they_were(kind: str, conversion: Plans, tmp_path: Path) -> None:
    """The preflight compares every tensor with the keys; what is padded already is not padded again."""
    plan = conversion(kind)
    wide = padded(plan)
    write_files([Output(wide, tmp_path / "padded.gguf")])
    file = inspect_model(tmp_path / "padded.gguf")
    widths = widths_of(plan)
    assert padded_from(file.metadata) == widths
    assert not trimmed_from(file.metadata)
    assert widths_of(wide) == dict.fromkeys(widths, 256)
    again = plan_of_file(tmp_path / "padded.gguf")
    assert padded(again).fingerprint == again.fingerprint
    assert any("padded to 256" in note for note in wide.notes)
    assert any("draft block" in note for note in wide.notes) == (kind == "mtp")


def test_files_of_different_widths_in_one_pass(conversion: Plans, tmp_path: Path) -> None:
    """Built at once or one by one, files with and without padding have the same bytes."""
    plan = conversion("moe-bf16", "auto")
    plans = {
        name: plan_quantization(plan, QuantizeOptions(file_type(name), pad=pad))  # type: ignore[arg-type]
        for name, pad in (("Q4_K_M", "all"), ("Q8_0", "none"), ("Q3_K_S", "auto"))
    }
    write_files([Output(planned, tmp_path / f"{name}.gguf") for name, planned in plans.items()])
    for name, planned in plans.items():
        write_files([Output(planned, tmp_path / "alone.gguf")])
        assert (tmp_path / "alone.gguf").read_bytes() == (tmp_path / f"{name}.gguf").read_bytes()
        (tmp_path / "alone.gguf").unlink()
        (tmp_path / "alone.gguf.sha256").unlink()


def test_trimmed_neurons_go_from_all_their_matrices(conversion: Plans, tmp_path: Path) -> None:
    plan = conversion("moe-bf16", "f32")
    rng = np.random.default_rng(0)
    widths = {EXPERT: 48, SHARED: 80}
    names = {t.name: t for t in plan.tensors if t.name.endswith(("ffn_down_exps.weight", "ffn_down_shexp.weight"))}
    kept = {
        name: np.stack(
            [
                np.sort(rng.choice(t.n_per_row, 32 if "exps" in name else 64, replace=False))
                for _ in range(len(t.sources))
            ]
        )
        for name, t in names.items()
    }
    change = Change(new_widths(widths, trim=(EXPERT, SHARED), block=32), kept=kept, error=0.125)
    write_files([Output(plan, tmp_path / "plain.gguf")])
    write_files([Output(resized(plan, change), tmp_path / "trimmed.gguf")])
    before, after = weights(tmp_path / "plain.gguf"), weights(tmp_path / "trimmed.gguf")
    for name, places in kept.items():
        up = name.replace("_down_", "_up_")
        if "exps" in name:
            assert np.array_equal(after[name], np.take_along_axis(before[name], places[:, None, :], axis=2))
            assert np.array_equal(after[up], np.take_along_axis(before[up], places[:, :, None], axis=1))
        else:
            assert np.array_equal(after[name], before[name][:, places[0]])
            assert np.array_equal(after[up], before[up][places[0]])
    file = inspect_model(tmp_path / "trimmed.gguf")
    assert trimmed_from(file.metadata) == widths
    assert file.get("nemotron_gguf.trimmed_error") == 0.125


def replaced(plan: FilePlan, **keys: Any) -> FilePlan:
    return FilePlan({**plan.metadata, **{key.replace("__", "."): value for key, value in keys.items()}}, plan.tensors)


def test_what_is_not_known_is_refused(conversion: Plans) -> None:
    plan = conversion("moe")
    with pytest.raises(ConvertError, match="architecture llama cannot be changed"):
        padded(replaced(plan, general__architecture=string("llama")))
    with pytest.raises(ConvertError, match=r"embedding_length is 97, expected \[96\] by the tensors"):
        padded(replaced(plan, nemotron_h_moe__embedding_length=u32(97)))
    metadata = {key: value for key, value in plan.metadata.items() if "expert_feed" not in key}
    with pytest.raises(ConvertError, match="expert_feed_forward_length is None"):
        padded(FilePlan(metadata, plan.tensors))


def test_a_quantized_source_is_padded_only_when_asked_to_requantize(conversion: Plans, tmp_path: Path) -> None:
    plan = plan_quantization(conversion("moe"), QuantizeOptions(file_type("Q8_0")))
    write_files([Output(plan, tmp_path / "q8.gguf")])
    source = plan_of_file(tmp_path / "q8.gguf")
    with pytest.raises(ConvertError, match="is Q8_0 already, its widths cannot be changed"):
        plan_quantization(source, QuantizeOptions(file_type("Q3_K_S"), pad="all"))
    options = QuantizeOptions(file_type("F32"), pad="all", allow_requantize=True)
    write_files([Output(plan_quantization(source, options), tmp_path / "f32.gguf")])
    before, after = weights(tmp_path / "q8.gguf"), weights(tmp_path / "f32.gguf")
    name = "blk.1.ffn_up_exps.weight"
    assert np.array_equal(after[name], padded_to(before[name], after[name].shape))


def test_trimming_without_neurons_is_for_looking_only(conversion: Plans, tmp_path: Path) -> None:
    """A dry run knows the sizes and not the neurons."""
    plan = conversion("moe")
    options = QuantizeOptions(file_type("Q8_0"), trim=Trimming(frozenset({EXPERT})), block=32, dry_run=True)
    planned = plan_quantization(plan, options)
    assert widths_of(planned) == {HIDDEN: 96, EXPERT: 32, SHARED: 80}
    with pytest.raises(AssertionError, match="without neurons"):
        write_files([Output(planned, tmp_path / "never.gguf")])


@pytest.mark.parametrize(
    ("widths", "pad", "trim", "expected"),
    [
        (NANO, "all", (), {HIDDEN: 2816, EXPERT: 2048, SHARED: 3840}),
        (NANO, (HIDDEN,), (EXPERT, SHARED), {HIDDEN: 2816, EXPERT: 1792, SHARED: 3584}),
        ({HIDDEN: 4096, EXPERT: 2688, SHARED: 5376, Dimension.LATENT: 1024}, "all", (), {EXPERT: 2816}),  # Super
        ({HIDDEN: 4480, Dimension.MLP: 15680}, "all", (), {HIDDEN: 4608, Dimension.MLP: 15872}),  # Nano 9B v2
        ({HIDDEN: 3136, Dimension.MLP: 12544}, "all", (), {HIDDEN: 3328}),  # Nano 4B
        ({EXPERT: 160}, (), (EXPERT,), {}),  # nothing would be left
    ],
)  # fmt: skip
def test_new_widths(widths: Mapping[Dimension, int], pad: Any, trim: Any, expected: Mapping[Dimension, int]) -> None:
    assert new_widths(widths, tuple(widths) if pad == "all" else pad, trim) == expected


def test_scaled_streams_are_f32_until_they_are_quantized(conversion: Plans) -> None:
    """No rounding to BF16 between the scale and the blocks."""
    plan = conversion("moe-bf16", "bf16")
    wide = resized(plan, Change({HIDDEN: 256}, Norms.STREAM))
    scaled = {t.name: t.resize.scale for t in wide.tensors if t.resize and t.resize.scale > 1}
    assert set(scaled.values()) == {(256 / 96) ** 0.5}
    assert {t.type.name for t in wide.tensors if t.name in scaled} == {"F32"}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in scaled} == {
        "token_embd", "ssm_out", "attn_output", "ffn_down_exps", "ffn_down_shexp",
    }  # fmt: skip
