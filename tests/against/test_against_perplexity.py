"""Figures and files of llama-perplexity, which `python bench/quality.py --chunks 12,3 --golden FILE` wrote down.

Model, text and chunks are the same, so are the figures: within 1e-3, or the last digit that it prints. Processors of
another kind round otherwise within the model; there, half a standard error is allowed besides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemotron_gguf.models.llama_logits import LlamaLogitsReader, decode
from nemotron_gguf.models.reference_logits import LogitsReader
from nemotron_gguf.runner.engine.library import library
from nemotron_gguf.runner.measure import measurer as module
from nemotron_gguf.runner.measure.evaluation import Evaluation, Material, Reference
from nemotron_gguf.runner.measure.measurer import Measurer
from nemotron_gguf.runner.measure.reading import read_texts
from nemotron_gguf.runner.measure.window import Window

GOLDEN = Path(__file__).parent / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "perplexity.json").read_text(encoding="utf-8"))["cases"]
PROCESSOR: str = json.loads((GOLDEN / "perplexity.json").read_text(encoding="utf-8"))["processor"]
DIGITS = {"top_1": 5, "p_diff_mean": 5, "p_diff_rms": 5}  # printed as per cent with three digits; the others have six


class Compared:
    """The demo model's Q4_K_M against its BF16, by this program, in llama-perplexity's form."""

    def __init__(self, measurer: Measurer, files: Mapping[str, Path], chunks: int, folder: Path) -> None:
        self.measurer, self.files, self.folder = measurer, files, folder
        self.material: Material = measurer.read(files["BF16"], read_texts([GOLDEN / "perplexity.txt"]), chunks)
        self.reference: Reference = measurer.llama_reference(files["BF16"], self.material, folder / "logits.kld")
        self.found: Evaluation = measurer.evaluate(files["Q4_K_M"], self.reference)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: str(case["n_ctx"]))
def case(
    request: pytest.FixtureRequest, demo_files: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Any], Compared]]:
    golden = request.param
    with Measurer(Window(golden["n_ctx"], threads=1)) as measurer:
        yield golden, Compared(measurer, demo_files, golden["chunks"], tmp_path_factory.mktemp("perplexity"))


def is_the_same_processor() -> bool:
    features = library().llama_print_system_info().decode()
    return bool(features == PROCESSOR)


def test_every_figure(case: tuple[dict[str, Any], Compared]) -> None:
    golden, compared = case
    found = compared.found.divergence.as_dict()
    assert set(golden["figures"]) <= set(found)
    for name, expected in golden["figures"].items():
        ours: Any = found[name]
        digit = 0.5 * 10.0 ** -DIGITS.get(name, 6) * 1.01
        allowed = 0.0 if is_the_same_processor() else 0.5 * (ours["error"] or abs(ours["value"]))
        assert ours["value"] == pytest.approx(expected["value"], rel=1e-3, abs=digit + allowed), name
        if expected["error"] is not None:
            assert ours["error"] == pytest.approx(expected["error"], rel=1e-3, abs=digit + allowed), name


def test_the_logits_file_has_the_same_bytes(case: tuple[dict[str, Any], Compared]) -> None:
    golden, compared = case
    if not is_the_same_processor():
        pytest.skip("the model rounds otherwise on this kind of processor")
    assert hashlib.sha256(compared.reference.path.read_bytes()).hexdigest() == golden["sha256"]


@pytest.mark.parametrize("case", CASES[:1], ids=["128"], indirect=True)
def test_its_logits_are_the_exact_ones_to_half_a_step(case: tuple[dict[str, Any], Compared]) -> None:
    """What is above the clip is rounded to the nearest step; torch says what ln p is."""
    import torch

    _, compared = case
    exact = LogitsReader(exactly(compared, pytest.MonkeyPatch()).path).chunk(1)
    reader = LlamaLogitsReader(compared.reference.path)
    rows = reader.chunk(1)
    log_p = torch.log_softmax(torch.tensor(exact, dtype=torch.float64), dim=1).numpy()
    above = exact > exact.max(axis=1, keepdims=True) - 16
    steps = np.ascontiguousarray(rows[:, :4]).view(np.float32)[:, :1]
    off = np.abs(decode(rows, compared.material.n_vocab) - log_p)
    assert above.any() and (off[above] <= np.broadcast_to(0.5 * steps + 4e-6, off.shape)[above]).all()
    assert (off[above].max(initial=0) > 0) and steps.max() <= 16 / 65535 * 1.001


def exactly(compared: Compared, patch: pytest.MonkeyPatch) -> Reference:
    """The reference's logits themselves, not the inputs of its output matrix."""
    cache = compared.folder / "plain.logits"
    with patch.context() as patched:
        patched.setattr(module, "output_matrix", lambda _file, _place: None)
        return compared.measurer.reference(compared.files["BF16"], compared.material, cache)


@pytest.mark.parametrize("case", CASES[:1], ids=["128"], indirect=True)
def test_the_rounding_is_what_the_exact_form_does_without(case: tuple[dict[str, Any], Compared]) -> None:
    """A file against itself: 16 bits and the clip read as a divergence, and as another perplexity."""
    _, compared = case
    rounded = compared.measurer.evaluate(compared.files["BF16"], compared.reference).divergence
    exact = compared.measurer.evaluate(compared.files["BF16"], exactly(compared, pytest.MonkeyPatch())).divergence
    assert rounded.kl_max.value > 0
    assert abs(rounded.log_ratio.value) > 0.1  # the tokens that came are often below the clip in this text
    assert exact.kl_max.value == exact.kl_mean.value == exact.p_diff_rms.value == exact.log_ratio.value == 0.0
    assert exact.top_1.value == exact.top_5.value == 1.0
