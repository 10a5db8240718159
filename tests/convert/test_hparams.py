from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hparams import read_hparams
from nemotron_gguf.convert.layers import Layer

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

# config.json of Nemotron 3 Nano 30B-A3B, the keys that a conversion reads.
NANO_30B: dict[str, Any] = {
    "architectures": ["NemotronHForCausalLM"], "attention_bias": False, "conv_kernel": 4, "expand": 2, "head_dim": 128,
    "hidden_size": 2688, "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856, "layer_norm_epsilon": 1e-05, "mamba_head_dim": 64, "mamba_hidden_act": "silu",
    "mamba_num_heads": 64, "mamba_proj_bias": False, "max_position_embeddings": 262144, "mlp_bias": False,
    "mlp_hidden_act": "relu2", "model_type": "nemotron_h", "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712, "n_group": 1, "n_groups": 8, "n_routed_experts": 128,
    "n_shared_experts": 1, "norm_eps": 1e-05, "norm_topk_prob": True, "num_attention_heads": 32,
    "num_experts_per_tok": 6, "num_hidden_layers": 52, "num_key_value_heads": 2, "rope_theta": 10000,
    "routed_scaling_factor": 2.5, "sliding_window": None, "ssm_state_size": 128, "tie_word_embeddings": False,
    "time_step_limit": [0.0, float("inf")], "topk_group": 1, "use_bias": False, "use_conv_bias": True,
    "vocab_size": 131072,
}  # fmt: skip


def test_the_30b() -> None:
    hp = read_hparams(NANO_30B)
    assert [hp.layers.count(layer) for layer in (Layer.MAMBA, Layer.MOE, Layer.ATTENTION)] == [23, 23, 6]
    assert hp.mamba.inner == 4096, "heads x head width, whatever `expand` says"
    assert hp.mamba.in_proj == 10304
    assert hp.moe is not None
    assert (hp.moe.n_experts, hp.moe.n_used, hp.moe.width, hp.moe.shared_width) == (128, 6, 1856, 3712)
    assert hp.mlp_width is None


def test_words_of_transformers_name_the_same_layers() -> None:
    words = {"M": "linear_attention", "E": "moe", "*": "full_attention"}
    old = {"M": "mamba", "E": "moe", "*": "attention"}
    pattern = NANO_30B["hybrid_override_pattern"]
    for spelling in (words, old):
        for key in ("layers_block_type", "layer_types"):
            config = {name: value for name, value in NANO_30B.items() if name != "hybrid_override_pattern"}
            del config["num_hidden_layers"]  # Nemotron 3 Ultra's has none
            config[key] = [spelling[letter] for letter in pattern]
            assert read_hparams(config) == read_hparams(NANO_30B)


def test_dense_is_told_by_the_pattern_and_not_by_stray_keys() -> None:
    config = NANO_30B | {"hybrid_override_pattern": "M-*-", "num_hidden_layers": 4, "n_routed_experts": -5}
    hp = read_hparams(config)
    assert not hp.is_moe
    assert hp.mlp_width == 1856


@pytest.mark.parametrize("limit", [[0.0, float("inf")], [0.0, 1e30], [0.0, {"__float__": "Infinity"}], None])
def test_spellings_of_no_limit(limit: object) -> None:
    assert read_hparams(NANO_30B | {"time_step_limit": limit}) == read_hparams(NANO_30B)


def test_older_names() -> None:
    config = {name: value for name, value in NANO_30B.items() if name not in ("head_dim", "norm_eps")}
    hp = read_hparams(config | {"attention_head_dim": 128, "rms_norm_eps": 1e-05})
    assert hp == read_hparams(NANO_30B)


def test_draft_heads() -> None:
    draft = NANO_30B | {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E"}
    assert read_hparams(draft).n_mtp == 1
    assert read_hparams(draft | {"mtp_layers_block_type": ["attention", "moe"]}).n_mtp == 1
    for other in ({"num_nextn_predict_layers": 2}, {"mtp_hybrid_override_pattern": "*-"}):
        hp = read_hparams(draft | other)
        assert hp.n_mtp == 0
        assert hp.mtp_refused


def test_an_error_names_key_found_and_expected() -> None:
    with pytest.raises(ConvertError, match=r"hidden_size = 'wide', expected a whole number from 1 to"):
        read_hparams(NANO_30B | {"hidden_size": "wide"})


def test_every_synthetic_kind_is_read(checkpoints: Checkpoints) -> None:
    from nemotron_gguf.convert.source.json_files import read_object

    for name, kind in checkpoints.KINDS.items():
        hp = read_hparams(read_object(checkpoints.get(name) / "config.json"))
        assert "".join(layer.value for layer in hp.layers) == kind.pattern
