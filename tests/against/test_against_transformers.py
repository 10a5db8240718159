"""llama.cpp on our F32 file against transformers on the checkpoint: the same distribution for every next token."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nemotron_gguf.convert import Output, WriteOptions, open_checkpoint, plan_conversion, write_files

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

Logits = npt.NDArray[np.float64]
N_TOKENS = 64


@pytest.mark.parametrize("kind", ["moe", "latent", "dense", "moe-f16"])
def test_the_file_predicts_what_the_checkpoint_predicts(kind: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = checkpoints.get(kind)
    tokens = np.random.default_rng(0).integers(8, 400, N_TOKENS).tolist()
    theirs = transformers_logits(folder, tokens)
    assert theirs.std(axis=1).min() > 0.1, "a flat distribution would prove nothing"
    target = tmp_path / "model.gguf"
    with open_checkpoint(folder) as checkpoint:
        write_files([Output(plan_conversion(checkpoint, "f32"), target)], WriteOptions(threads=2))
    ours = llama_logits(target, tokens)
    divergence = kl(theirs, ours)
    print(f"{kind}: mean KL divergence {divergence.mean():.2e}")
    assert divergence.mean() < 1e-6
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).all()


def kl(p_logits: Logits, q_logits: Logits) -> Logits:
    """Kullback-Leibler divergence of each row, `(n,)`, in nats."""
    p, q = log_softmax(p_logits), log_softmax(q_logits)
    divergence: Logits = (np.exp(p) * (p - q)).sum(axis=1)
    return divergence


def log_softmax(logits: Logits) -> Logits:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Logits = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def transformers_logits(folder: Path, tokens: list[int]) -> Logits:
    """`(n_tokens, n_vocab)`."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits: Logits = model(torch.tensor([tokens])).logits[0].double().numpy()
    return logits


def llama_logits(path: Path, tokens: list[int]) -> Logits:
    """`(n_tokens, n_vocab)`, all tokens in one batch."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
    assert model
    context_settings = llama_cpp.llama_context_default_params()
    context_settings.n_ctx = context_settings.n_batch = context_settings.n_ubatch = 128
    context_settings.n_threads = context_settings.n_threads_batch = 2
    context_settings.type_k = context_settings.type_v = 0  # F32: the cache's rounding is no fault of the file
    context_settings.flash_attn_type = 0
    context = llama_cpp.llama_init_from_model(model, context_settings)
    assert context
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for index, token in enumerate(tokens):
        batch.token[index], batch.pos[index], batch.logits[index] = token, index, 1
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
    assert llama_cpp.llama_decode(context, batch) == 0
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    raw = llama_cpp.llama_get_logits(context)
    logits = np.ctypeslib.as_array(raw, (len(tokens), n_vocab)).astype(np.float64)
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return logits


@pytest.mark.parametrize("kind", ["moe", "latent", "dense"])
def test_what_transformers_saves_gives_the_same_file(kind: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Its layout names layers in words, and fills a dense model's config with defaults of experts."""
    from transformers import AutoModelForCausalLM

    original, saved = checkpoints.get(kind), tmp_path / kind
    AutoModelForCausalLM.from_pretrained(original, dtype="auto").save_pretrained(saved)
    assert "layers_block_type" in saved.joinpath("config.json").read_text(encoding="utf-8")
    for path in original.iterdir():
        if path.suffix != ".safetensors" and path.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copy(path, saved)
    files: list[bytes] = []
    for folder in (original, saved):
        with open_checkpoint(folder) as checkpoint:
            target = tmp_path / f"{len(files)}.gguf"
            write_files([Output(plan_conversion(checkpoint), target)], WriteOptions(threads=2))
            files.append(target.read_bytes())
    assert files[0] == files[1]


def test_a_vocabulary_that_is_no_multiple_of_8_loads(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder, target = checkpoints.make(tmp_path / "odd", vocab=515), tmp_path / "odd.gguf"
    with open_checkpoint(folder) as checkpoint:
        write_files([Output(plan_conversion(checkpoint), target)], WriteOptions(threads=2))
    assert llama_logits(target, [10, 20, 30]).shape == (3, 515)
