"""Synthetic checkpoints of every kind of the family: the Hub's layout and names, small random weights."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from nemotron_gguf.tests.hub_server import Hub

# Tests are no part of the package, but their helpers are imported by the name that mypy knows them under.
sys.modules.setdefault("nemotron_gguf.tests", ModuleType("nemotron_gguf.tests")).__path__ = [str(Path(__file__).parent)]

# Whoever runs the tests in the background has them start with Ctrl-C ignored, and programs that they start inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = "The quick brown fox jumps over the lazy dog, and 1234 small models learn to talk about 3.14 and naïve café. "
SPECIAL = ("<unk>", "<s>", "</s>", "<SPECIAL_3>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


@dataclass(frozen=True)
class Kind:
    """A model's sizes; `pattern` has a letter a layer, as in the Hub's configs."""

    pattern: str = "ME*EM*ME"
    hidden: int = 96
    vocab: int = 512
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 32
    mamba_heads: int = 4
    mamba_head_dim: int = 32
    groups: int = 2
    state: int = 16
    kernel: int = 4
    n_experts: int = 8
    n_used: int = 3
    width: int = 48
    shared: int = 80
    latent: int | None = None
    mtp: bool = False
    mlp: int = 144
    dtype: torch.dtype = torch.float32
    n_shards: int = 1
    tied: bool = False
    conv_bias: bool = True
    attention_bias: bool = False
    regex: str = LLAMA3
    other_flags: bool = False  # tokenizer_config.json says otherwise than tokenizer.json which tokens are special
    seed: int = 0

    @property
    def inner(self) -> int:
        return self.mamba_heads * self.mamba_head_dim


KINDS: Mapping[str, Kind] = {
    "moe": Kind(),
    "moe-bf16": Kind(dtype=torch.bfloat16, regex=TEKKEN, n_shards=3),
    "moe-aligned": Kind(hidden=256, width=256, shared=512, dtype=torch.bfloat16),
    "moe-f16": Kind(dtype=torch.float16, conv_bias=False),
    "latent": Kind(latent=64, n_shards=2, other_flags=True, seed=1),
    "mtp": Kind(mtp=True, latent=64, dtype=torch.bfloat16, seed=2),
    "dense": Kind(pattern="M-M*-M-*", seed=3),
    "dense-bias": Kind(pattern="M-*M-", attention_bias=True, regex=TEKKEN, seed=5),
    "dense-bf16": Kind(pattern="M-*-M-", hidden=256, mlp=512, dtype=torch.bfloat16, tied=True, n_shards=2, seed=4),
}


def config_of(kind: Kind) -> dict[str, Any]:
    """config.json as the Hub's checkpoints have it."""
    config: dict[str, Any] = {
        "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "hybrid_override_pattern": kind.pattern,
        "num_hidden_layers": len(kind.pattern), "hidden_size": kind.hidden, "vocab_size": kind.vocab,
        "num_attention_heads": kind.n_heads, "num_key_value_heads": kind.n_kv_heads, "head_dim": kind.head_dim,
        "mamba_num_heads": kind.mamba_heads, "mamba_head_dim": kind.mamba_head_dim, "n_groups": kind.groups,
        "ssm_state_size": kind.state, "conv_kernel": kind.kernel, "chunk_size": 16, "expand": 2,
        "intermediate_size": kind.mlp, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu",
        "use_conv_bias": kind.conv_bias, "use_bias": False, "mlp_bias": False, "attention_bias": kind.attention_bias,
        "mamba_proj_bias": False, "norm_eps": 1e-05, "layer_norm_epsilon": 1e-05, "rope_theta": 10000,
        "max_position_embeddings": 4096, "tie_word_embeddings": kind.tied, "time_step_limit": [0.0, float("inf")],
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "dtype": str(kind.dtype).removeprefix("torch."),
        "sliding_window": None, "residual_in_fp32": False,
    }  # fmt: skip
    if "E" in kind.pattern:
        config |= {
            "n_routed_experts": kind.n_experts, "num_experts_per_tok": kind.n_used, "n_shared_experts": 1,
            "moe_intermediate_size": kind.width, "moe_shared_expert_intermediate_size": kind.shared,
            "moe_latent_size": kind.latent, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
        }  # fmt: skip
    if kind.mtp:
        config |= {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E"}
    return config


def shapes_of(kind: Kind) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the checkpoint's tensors."""
    yield "backbone.embeddings.weight", (kind.vocab, kind.hidden)
    for index, letter in enumerate(kind.pattern):
        yield f"backbone.layers.{index}.norm.weight", (kind.hidden,)
        yield from _mixer(kind, letter, f"backbone.layers.{index}.mixer")
    yield "backbone.norm_f.weight", (kind.hidden,)
    if not kind.tied:
        yield "lm_head.weight", (kind.vocab, kind.hidden)
    if kind.mtp:
        yield from ((f"mtp.layers.0.{name}.weight", (kind.hidden,)) for name in ("enorm", "hnorm", "norm"))
        yield "mtp.layers.0.eh_proj.weight", (kind.hidden, 2 * kind.hidden)
        yield from _mixer(kind, "*", "mtp.layers.0.mixer")
        yield from ((f"mtp.layers.1.{name}.weight", (kind.hidden,)) for name in ("norm", "final_layernorm"))
        yield from _mixer(kind, "E", "mtp.layers.1.mixer")


def _mixer(kind: Kind, letter: str, at: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, channels = kind.hidden, kind.inner + 2 * kind.groups * kind.state
    if letter == "M":
        yield f"{at}.in_proj.weight", (kind.inner + channels + kind.mamba_heads, hidden)
        yield f"{at}.conv1d.weight", (channels, 1, kind.kernel)
        if kind.conv_bias:
            yield f"{at}.conv1d.bias", (channels,)
        yield from ((f"{at}.{name}", (kind.mamba_heads,)) for name in ("A_log", "D", "dt_bias"))
        yield f"{at}.norm.weight", (kind.inner,)
        yield f"{at}.out_proj.weight", (hidden, kind.inner)
    elif letter == "*":
        queries, keys = kind.n_heads * kind.head_dim, kind.n_kv_heads * kind.head_dim
        yield f"{at}.q_proj.weight", (queries, hidden)
        yield from ((f"{at}.{name}.weight", (keys, hidden)) for name in ("k_proj", "v_proj"))
        yield f"{at}.o_proj.weight", (hidden, queries)
        if kind.attention_bias:
            sizes = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
            yield from ((f"{at}.{name}.bias", (size,)) for name, size in sizes.items())
    elif letter == "-":
        yield f"{at}.up_proj.weight", (kind.mlp, hidden)
        yield f"{at}.down_proj.weight", (hidden, kind.mlp)
    else:
        yield from _experts(kind, at)


def _experts(kind: Kind, at: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    inside = kind.latent or kind.hidden
    yield f"{at}.gate.weight", (kind.n_experts, kind.hidden)
    yield f"{at}.gate.e_score_correction_bias", (kind.n_experts,)
    for expert in range(kind.n_experts):
        yield f"{at}.experts.{expert}.up_proj.weight", (kind.width, inside)
        yield f"{at}.experts.{expert}.down_proj.weight", (inside, kind.width)
    yield f"{at}.shared_experts.up_proj.weight", (kind.shared, kind.hidden)
    yield f"{at}.shared_experts.down_proj.weight", (kind.hidden, kind.shared)
    if kind.latent:
        yield f"{at}.fc1_latent_proj.weight", (kind.latent, kind.hidden)
        yield f"{at}.fc2_latent_proj.weight", (kind.hidden, kind.latent)


def tensors_of(kind: Kind) -> dict[str, torch.Tensor]:
    """Random weights at scales that keep the activations, and so the logits, lively."""
    generator = torch.Generator().manual_seed(kind.seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in shapes_of(kind):
        noise = torch.randn(shape, generator=generator)
        if name.endswith(("norm.weight", "norm_f.weight", "layernorm.weight", ".D")):
            value = 1 + 0.2 * noise
        elif name.endswith("A_log"):
            value = torch.log(1 + 7 * torch.rand(shape, generator=generator))
        elif name.endswith(("dt_bias", "correction_bias", "conv1d.bias")):
            value = 0.3 * noise
        else:
            value = noise / shape[-1] ** 0.5
        keep = name.endswith("e_score_correction_bias")  # the Hub's checkpoints have this one in F32
        tensors[name] = value if keep else value.to(kind.dtype)
    return tensors


def save_weights(folder: Path, tensors: Mapping[str, torch.Tensor], n_shards: int) -> None:
    """As one file, or as several with an index."""
    from safetensors.torch import save_file

    if n_shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = names[shard::n_shards]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    folder.joinpath("model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def save_tokenizer(folder: Path, kind: Kind) -> None:
    """A byte-level BPE tokenizer like the family's, with a hole before the last ids."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(kind.regex), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=kind.vocab - 40,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [TEXT * 4, "Grüße aus Köln! 你好，世界。\n\n\tdef f(x):\n    return x + 1\n" * 4], trainer
    )
    plain = AddedToken("<tool_call>", special=False, normalized=False)
    tokenizer.add_tokens([plain, AddedToken("<|looks_special|>", special=False, normalized=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|im_end|>",
        "unk_token": {"content": "<unk>", "__type": "AddedToken"}, "add_bos_token": False, "add_eos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": 4096,
    }  # fmt: skip
    if kind.other_flags:
        flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        settings["added_tokens_decoder"] = {
            str(index): {"content": token, "special": not token.endswith(("think>", "s>")), **flags}
            for index, token in enumerate(SPECIAL)
        }
    folder.joinpath("tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    folder.joinpath("chat_template.jinja").write_text(template, encoding="utf-8")


CARD = """---
license: other
license_name: nvidia-nemotron-open-model-license
license_link: https://example.com/licence
language:
- en
- no
tags:
- nvidia
- pytorch
pipeline_tag: text-generation
base_model: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-Base-BF16
datasets:
- nvidia/Nemotron-Pretraining-Code-v1
---
# A model
"""


class Checkpoints:
    """Makes synthetic checkpoints, each kind once a session."""

    KINDS = KINDS

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Path:
        """The folder of a kind's checkpoint, to be read only."""
        folder = self.folder / name
        return folder if folder.exists() else self.make(folder, KINDS[name])

    def make(self, folder: Path, kind: Kind | None = None, **changes: Any) -> Path:
        """A checkpoint of its own in a new folder."""
        kind = replace(kind or Kind(), **changes)
        folder.mkdir(parents=True)
        folder.joinpath("config.json").write_text(json.dumps(config_of(kind)), encoding="utf-8")
        generation = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [2, 5]}
        folder.joinpath("generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
        folder.joinpath("README.md").write_text(CARD, encoding="utf-8")
        save_tokenizer(folder, kind)
        save_weights(folder, tensors_of(kind), kind.n_shards)
        return folder


@pytest.fixture(scope="session", autouse=True)
def library_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to, or read from, the library of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEMOTRON_HOME", str(tmp_path_factory.mktemp("library")))
        yield


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A rehearsal of the Hub with the demo checkpoint as its one repository."""
    from nemotron_gguf.models.demo import CHECKPOINT
    from nemotron_gguf.tests.hub_server import serve

    with serve(sorted(path for path in CHECKPOINT.iterdir() if path.is_file())) as hub:
        yield hub


@pytest.fixture
def hub_here(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The same, for this process, with an empty cache."""
    from huggingface_hub import close_session, constants

    for name, value in (
        ("ENDPOINT", hub.url),
        ("HF_HUB_CACHE", str(tmp_path / "cache")),
        ("HF_TOKEN_PATH", str(tmp_path / "none")),
    ):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    close_session()
    return hub


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The demo model's files by type, made as `nemotron demo` makes them."""
    from nemotron_gguf.ui.demo import make

    return make(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def demo_q8(demo_files: Mapping[str, Path]) -> Path:
    return demo_files["Q8_0"]


@pytest.fixture(scope="session")
def demo_q4(demo_files: Mapping[str, Path]) -> Path:
    return demo_files["Q4_K_M"]
