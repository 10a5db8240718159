"""Files that would make libllama abort, divide by zero or throw through C are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nemotron_gguf.models.errors import ModelError, NemotronError
from nemotron_gguf.models.gguf_values import Value, ValueType, array, f32, string, u32
from nemotron_gguf.runner import RunnerError, inspect_model

ARCH = "nemotron_h_moe"


def words(*changed: str) -> Value:
    return array(ValueType.STRING, [*changed, *(f"w{index}" for index in range(263 - len(changed)))])


REFUSED: dict[str, tuple[dict[str, Value | None], str]] = {
    "no architecture": ({"general.architecture": None}, "general.architecture"),
    "one of several parts": ({"split.count": u32(3)}, "give the first"),
    "no layers": ({f"{ARCH}.block_count": u32(0)}, "block_count is 0"),
    "too many layers": ({f"{ARCH}.block_count": u32(513)}, "expected 1 to 512"),
    "layers without tensors": ({f"{ARCH}.block_count": u32(4)}, "layer 3 has no tensors"),
    "tensors without layers": ({f"{ARCH}.block_count": u32(2)}, "tensors of layer 2"),
    "layers that are text": ({f"{ARCH}.block_count": string("3")}, "expected a whole number"),
    "more predicted layers than layers": ({f"{ARCH}.nextn_predict_layers": u32(3)}, "nextn_predict_layers"),
    "no context": ({f"{ARCH}.context_length": u32(0)}, "context_length"),
    "more experts used than there are": ({f"{ARCH}.expert_used_count": u32(5)}, "5 experts of 4"),
    "no expert used": ({f"{ARCH}.expert_used_count": u32(0)}, "0 experts of 4"),
    "experts used of none": ({f"{ARCH}.expert_count": u32(0)}, "2 experts of 0"),
    "too many experts": ({f"{ARCH}.expert_count": u32(2000)}, "1024"),
    "as many groups as experts": ({f"{ARCH}.expert_group_count": u32(4)}, "4 groups"),
    "groups that do not divide": ({f"{ARCH}.expert_group_count": u32(3)}, "3 groups"),
    "no vocabulary": ({"tokenizer.ggml.tokens": None}, "no vocabulary"),
    "a vocabulary of numbers": ({"tokenizer.ggml.tokens": array(ValueType.INT32, [1])}, "no vocabulary"),
    "a token twice": ({"tokenizer.ggml.tokens": words("a", "a")}, "twice"),
    "no tokenizer": ({"tokenizer.ggml.model": string("no_vocab")}, "tokenizer.ggml.model"),
    "no byte tokens": ({"tokenizer.ggml.model": string("llama")}, "byte tokens"),
    "a special token outside": ({"tokenizer.ggml.eos_token_id": u32(263)}, "eos_token_id is 263"),
    "a huge special token": ({"tokenizer.ggml.padding_token_id": u32(2**32 - 1)}, "padding_token_id"),
    "an embedding of another width": ({f"{ARCH}.embedding_length": u32(65)}, "token_embd.weight"),
    "an unknown rope": ({f"{ARCH}.rope.scaling.type": string("spiral")}, "spiral"),
    "an epsilon below zero": ({f"{ARCH}.attention.layer_norm_rms_epsilon": f32(-1)}, "epsilon"),
    "an epsilon that is no number": ({f"{ARCH}.attention.layer_norm_rms_epsilon": f32(float("nan"))}, "epsilon"),
    "no Mamba groups": ({f"{ARCH}.ssm.group_count": u32(0)}, "0 groups"),
    "Mamba heads that do not divide": ({f"{ARCH}.ssm.time_step_rank": u32(3)}, "3 heads"),
    "no convolution": ({f"{ARCH}.ssm.conv_kernel": u32(0)}, "convolution"),
    "unequal heads": ({f"{ARCH}.attention.key_length": u32(8)}, "key_length is 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(tiny_gguf: Callable[..., Path], case: str) -> None:
    change, reason = REFUSED[case]
    with pytest.raises((RunnerError, ModelError), match=reason) as caught:
        inspect_model(tiny_gguf(change))
    assert "\n" not in str(caught.value)


def test_the_sound_file_passes(tiny_gguf: Callable[..., Path]) -> None:
    assert inspect_model(tiny_gguf()).architecture == ARCH


@pytest.mark.parametrize("left_out", ["token_embd", "blk.1."])
def test_a_missing_tensor_is_refused(tiny_gguf: Callable[..., Path], left_out: str) -> None:
    with pytest.raises(RunnerError, match=r"token_embd|layer 1"):
        inspect_model(tiny_gguf(drop=left_out))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model" * 100, None])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path: Any = tmp_path
    if content is not None:
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
    with pytest.raises(NemotronError):
        inspect_model(path)
