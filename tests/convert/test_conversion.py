from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemotron_gguf.convert import ConvertError, FilePlan, default_name, open_checkpoint, plan_conversion
from nemotron_gguf.models.ggml import GGMLType

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints


def rows_of(plan: FilePlan) -> dict[str, bytes]:
    """Every tensor's sources, read whole."""
    return {t.name: b"".join(s.read(0, s.n_rows).tobytes() for s in t.sources) for t in plan.tensors}


def rewritten(checkpoints: Checkpoints, folder: Path, kind: str, tensors: dict[str, torch.Tensor]) -> Path:
    """A copy of a checkpoint with other weights."""
    shutil.copytree(checkpoints.get(kind), folder)
    save_file(tensors, folder / "model.safetensors")
    return folder


def weights(checkpoints: Checkpoints, kind: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(checkpoints.get(kind) / "model.safetensors")
    return tensors


@pytest.mark.parametrize(
    ("kind", "expected"), [("moe", GGMLType.F32), ("moe-f16", GGMLType.F16), ("moe-bf16", GGMLType.BF16)]
)
def test_auto_keeps_the_precision(kind: str, expected: GGMLType, checkpoints: Checkpoints) -> None:
    with open_checkpoint(checkpoints.get(kind)) as checkpoint:
        plan = plan_conversion(checkpoint)
    types = {tensor.name: tensor.type for tensor in plan.tensors}
    assert types["token_embd.weight"] is expected
    assert types["blk.0.ssm_norm.weight"] is GGMLType.F32


def test_prefix_and_stacking_of_transformers_own_layout(checkpoints: Checkpoints, tmp_path: Path) -> None:
    stacked: dict[str, torch.Tensor] = {}
    for name, value in weights(checkpoints, "moe").items():
        name = name.replace("backbone.", "model.")
        if ".experts.0." not in name and ".experts." in name:
            continue
        if ".experts.0." in name:
            others = [name.replace(".experts.0.", f".experts.{n}.").replace("model.", "backbone.") for n in range(8)]
            value = torch.stack([weights(checkpoints, "moe")[other] for other in others])
            name = name.replace(".experts.0.", ".experts.").removesuffix(".weight")
        stacked[name] = value
    folder = rewritten(checkpoints, tmp_path / "moe", "moe", stacked)
    with open_checkpoint(folder) as ours, open_checkpoint(checkpoints.get("moe")) as theirs:
        one, other = plan_conversion(ours), plan_conversion(theirs)
        assert one.metadata == other.metadata
        assert rows_of(one) == rows_of(other)


def test_an_unsupported_draft_head_is_left_out_with_a_word(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = tmp_path / "mtp"
    shutil.copytree(checkpoints.get("mtp"), folder)
    config = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))
    folder.joinpath("config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 2}), encoding="utf-8")
    with open_checkpoint(folder) as checkpoint:
        plan = plan_conversion(checkpoint)
    assert not any("nextn" in tensor.name for tensor in plan.tensors)
    assert "nemotron_h_moe.nextn_predict_layers" not in plan.metadata
    assert any("draft head" in note for note in plan.notes)


def test_a_draft_head_that_was_dropped(checkpoints: Checkpoints, tmp_path: Path) -> None:
    kept = {name: value for name, value in weights(checkpoints, "mtp").items() if not name.startswith("mtp.")}
    with open_checkpoint(rewritten(checkpoints, tmp_path / "mtp", "mtp", kept)) as checkpoint:
        plan = plan_conversion(checkpoint)
    assert plan.metadata["nemotron_h_moe.block_count"].plain() == 8
    assert any("the checkpoint has none" in note for note in plan.notes)


def test_context_from_the_catalogue(checkpoints: Checkpoints) -> None:
    name = "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
    with open_checkpoint(checkpoints.get("moe"), name=name) as checkpoint:
        plan = plan_conversion(checkpoint)
        assert default_name(checkpoint, "Q4_K_M") == "NVIDIA-Nemotron-3-Nano-30B-A3B-Q4_K_M.gguf"
    assert plan.metadata["nemotron_h_moe.context_length"].plain() == 1 << 20
    assert "model card" in plan.notes[0]


def test_context_from_the_config(checkpoints: Checkpoints) -> None:
    with open_checkpoint(checkpoints.get("moe")) as checkpoint:
        plan = plan_conversion(checkpoint)
    assert plan.metadata["nemotron_h_moe.context_length"].plain() == 4096
    assert "max_position_embeddings" in plan.notes[0]


def test_a_vocabulary_that_is_no_multiple_of_8(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """The token list must be as long as the embeddings, or llama.cpp refuses the file."""
    with open_checkpoint(checkpoints.make(tmp_path / "odd", vocab=515)) as checkpoint:
        plan = plan_conversion(checkpoint)
    tokens = plan.metadata["tokenizer.ggml.tokens"].plain()
    assert isinstance(tokens, list)
    assert len(tokens) == 515 == next(t for t in plan.tensors if t.name == "token_embd.weight").shape[0]


def test_an_outtype_that_is_none(checkpoints: Checkpoints) -> None:
    with open_checkpoint(checkpoints.get("moe")) as checkpoint, pytest.raises(ConvertError, match="'q8_0' is no type"):
        plan_conversion(checkpoint, "q8_0")  # type: ignore[arg-type]


def test_a_broken_card_is_no_obstacle(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = tmp_path / "moe"
    shutil.copytree(checkpoints.get("moe"), folder)
    for card in (
        "---\n{:\n---\n",
        "---\ntags: [[a], {b: [c]}, 3]\nlicense: 7\n---\n",
        "no front matter",
        "---\n- a\n---\n",
    ):
        folder.joinpath("README.md").write_text(card, encoding="utf-8")
        with open_checkpoint(folder) as checkpoint:
            assert plan_conversion(checkpoint).metadata["general.name"].plain() == "Moe"
    folder.joinpath("README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    with open_checkpoint(folder) as checkpoint:
        assert "general.license" not in plan_conversion(checkpoint).metadata


def test_sampling_defaults(checkpoints: Checkpoints) -> None:
    with open_checkpoint(checkpoints.get("moe")) as checkpoint:
        metadata = plan_conversion(checkpoint).metadata
    assert metadata["general.sampling.temp"].plain() == pytest.approx(0.6)
    assert metadata["general.sampling.top_p"].plain() == pytest.approx(0.95)
    assert "general.sampling.top_k" not in metadata


def test_a_model_that_does_not_sample_takes_the_likeliest_token(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "greedy")
    folder.joinpath("generation_config.json").write_text('{"do_sample": false, "temperature": 0.7}')
    with open_checkpoint(folder) as checkpoint:
        assert plan_conversion(checkpoint).metadata["general.sampling.temp"].plain() == 0
