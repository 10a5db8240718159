"""The demo model's configuration, and its weights in the layout of the Hub's Nemotron 3 checkpoints."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_gguf.models.demo.training.model import Nemotron
from nemotron_gguf.models.demo.training.tokenizer import VOCAB_SIZE

PATTERN = "MEM*EMEM*E"
CONFIG: dict[str, Any] = {
    "architectures": ["NemotronHForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "chunk_size": 128,
    "conv_kernel": 4,
    "eos_token_id": 11,
    "expand": 2,
    "head_dim": 64,
    "hidden_dropout": 0.0,
    "hidden_size": 224,
    "hybrid_override_pattern": PATTERN,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "layer_norm_epsilon": 1e-5,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 4,
    "mamba_proj_bias": False,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 4096,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "model_type": "nemotron_h",
    "moe_intermediate_size": 160,
    "moe_shared_expert_intermediate_size": 192,
    "n_group": 1,
    "n_groups": 2,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_eps": 1e-5,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": len(PATTERN),
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "pad_token_id": 0,
    "partial_rotary_factor": 1.0,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "sliding_window": None,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "time_step_floor": 1e-4,
    "time_step_limit": [0.0, float("inf")],
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "topk_group": 1,
    "torch_dtype": "bfloat16",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": VOCAB_SIZE,
}
GENERATION = {"bos_token_id": 1, "do_sample": False, "eos_token_id": [2, 11], "pad_token_id": 0}


@torch.no_grad()
def hub_tensors(model: Nemotron) -> dict[str, Tensor]:
    """The weights under the Hub's names: one tensor an expert, BF16 but for the router's bias."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name == "align":
            continue
        if name == "lm_head.weight":
            tensors[name] = model.output_rows().bfloat16().contiguous()
        elif ".experts." in name:
            place, projection = name.rsplit(".", 1)
            for k, expert in enumerate(value):
                tensors[f"{place}.{k}.{projection}.weight"] = expert.bfloat16().contiguous()
        elif name.endswith("e_score_correction_bias"):
            tensors[name] = value.float()
        else:
            tensors[name] = value.bfloat16().contiguous()
    return tensors


def save(model: Nemotron, folder: Path, config: dict[str, Any] = CONFIG) -> None:
    """Write config.json, generation_config.json and model.safetensors of a model that was made from `config`."""
    partial = folder / "model.safetensors.part"
    save_file(hub_tensors(model), partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "model.safetensors")
    for name, content in (("config.json", config), ("generation_config.json", GENERATION)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Nemotron:
    """The model of a checkpoint folder, in float32."""
    tensors = load_file(folder / "model.safetensors")
    model = Nemotron(CONFIG)
    state = {**tensors, "align": torch.zeros_like(model.align)}
    for name in model.state_dict():
        if ".experts." in name:
            place, projection = name.rsplit(".", 1)
            state[name] = torch.stack(
                [state.pop(f"{place}.{k}.{projection}.weight") for k in range(CONFIG["n_routed_experts"])]
            )
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return model
