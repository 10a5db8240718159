"""A GGUF file is looked over before libllama sees it, which aborts the whole process on some inconsistent metadata.

Each rule stands for an assertion, a division by zero or an uncaught exception in llama.cpp (src/llama-model.cpp,
src/llama-vocab.cpp, src/models/mamba-base.cpp); what libllama refuses by itself with a message is left to it.
"""

from __future__ import annotations

import re
from pathlib import Path

from nemotron_gguf.models.gguf_parts import read_whole
from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.errors import RunnerError

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS (src/llama-hparams.h)
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
ROPE_SCALING = ("none", "linear", "yarn", "longrope")
BYTE_TOKENS = {f"<0x{byte:02X}>" for byte in range(256)}


def inspect_model(path: str | Path) -> GGUFFile:
    """Read and check a model file, or all parts of one that is given by its first.

    Raises GGUFError for a file that is no sound GGUF, ModelError for parts that do not belong together, and
    RunnerError for a model that llama.cpp could not run.
    """
    file = read_whole(path)
    for rule in (_whole, _layers, _experts, _vocabulary, _special_tokens, _embedding, _numbers, _mamba):
        rule(file)
    return file


def _fail(file: GGUFFile, message: str) -> RunnerError:
    return RunnerError(f"{file.path} cannot be run: {message}; convert or download it again")


def count(file: GGUFFile, key: str, default: int | None = None) -> int:
    """An architecture's whole number, `{arch}.{key}`; an array counts as its largest item."""
    name = f"{file.architecture}.{key}"
    value = file.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return max(item for item in value if isinstance(item, int))
    if type(value) is not int:
        raise _fail(file, f"{name} is {'missing' if value is None else repr(value)}, expected a whole number")
    return value


def _whole(file: GGUFFile) -> None:
    if not file.architecture:
        raise _fail(file, "general.architecture is missing, so nothing says what kind of model it is")
    if not file.tensors:
        raise _fail(file, "it has no tensors (a vocabulary or a header alone)")


def _layers(file: GGUFFile) -> None:
    n_layers, n_extra = count(file, "block_count"), count(file, "nextn_predict_layers", 0)
    if not 1 <= n_layers <= MAX_LAYERS:
        raise _fail(file, f"{file.architecture}.block_count is {n_layers}, expected 1 to {MAX_LAYERS}")
    if not 0 <= n_extra < n_layers:
        raise _fail(file, f"{file.architecture}.nextn_predict_layers is {n_extra} of {n_layers} layers")
    found = {int(match[1]) for tensor in file.tensors if (match := re.match(r"blk\.(\d{1,9})\.", tensor.name))}
    missing = set(range(n_layers - n_extra)) - found
    if missing or max(found) >= n_layers:
        what = f"layer {min(missing)} has no tensors" if missing else f"there are tensors of layer {max(found)}"
        raise _fail(file, f"{file.architecture}.block_count is {n_layers}, but {what}")
    if count(file, "context_length") < 1:
        raise _fail(file, f"{file.architecture}.context_length is 0")


def _experts(file: GGUFFile) -> None:
    n_experts, used = count(file, "expert_count", 0), count(file, "expert_used_count", 0)
    groups, group_used = count(file, "expert_group_count", 0), count(file, "expert_group_used_count", 0)
    lowest = 1 if n_experts else 0
    if not (n_experts <= MAX_EXPERTS and lowest <= used <= n_experts):
        raise _fail(file, f"{used} experts of {n_experts} are used, expected {lowest} to {min(n_experts, MAX_EXPERTS)}")
    if groups and groups >= n_experts:
        raise _fail(file, f"{n_experts} experts are in {groups} groups")
    if groups > 1 and (n_experts % groups or not 0 < group_used < groups):
        raise _fail(file, f"{n_experts} experts are in {groups} groups, {group_used} of them used")


def tokens(file: GGUFFile) -> list[str]:
    """The vocabulary. Raises RunnerError where it is missing or no list of strings."""
    value = file.metadata.get("tokenizer.ggml.tokens")
    if value is None or not isinstance(value.data, list) or not value.data:
        raise _fail(file, "it has no vocabulary (tokenizer.ggml.tokens)")
    return value.data


def _vocabulary(file: GGUFFile) -> None:
    words, kind = tokens(file), file.get("tokenizer.ggml.model")
    if not isinstance(kind, str) or kind in ("none", "no_vocab", "test"):
        raise _fail(file, f"tokenizer.ggml.model is {kind!r}, so no text can be read with it")
    named = [word or f"[EMPTY_{index}]" for index, word in enumerate(words)]
    if len(set(named)) != len(named):
        raise _fail(file, f"{len(named) - len(set(named))} tokens of the vocabulary are there twice")
    if kind == "llama" and BYTE_TOKENS - set(named):
        raise _fail(file, "its SentencePiece vocabulary lacks byte tokens (<0x00> to <0xFF>)")


def _special_tokens(file: GGUFFile) -> None:
    size = len(tokens(file))
    for key in file.metadata:
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            token = file.get(key)
            if type(token) is not int or not 0 <= token < size:
                raise _fail(file, f"{key} is {token!r}, expected one of the {size} tokens")


def _embedding(file: GGUFFile) -> None:
    expected = (len(tokens(file)), count(file, "embedding_length"))
    found = next((tensor.shape for tensor in file.tensors if tensor.name == "token_embd.weight"), None)
    if found != expected:
        what = "missing" if found is None else f"of shape {list(found)}"
        raise _fail(file, f"token_embd.weight is {what}, expected {list(expected)} (tokens × embedding length)")


def _numbers(file: GGUFFile) -> None:
    kind = file.get(f"{file.architecture}.rope.scaling.type")
    if kind is not None and kind not in ROPE_SCALING:
        names = ", ".join(ROPE_SCALING)
        raise _fail(file, f"{file.architecture}.rope.scaling.type is {kind!r}, expected one of {names}")
    for key in file.metadata:
        if key.endswith("epsilon"):
            value = file.get(key)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise _fail(file, f"{key} is {value!r}, expected a small number")


def _mamba(file: GGUFFile) -> None:
    """The sizes of Mamba layers divide each other; heads of attention are equally wide for keys and values."""
    if not file.architecture.startswith("nemotron_h"):
        return
    inner, heads, groups = (count(file, f"ssm.{key}") for key in ("inner_size", "time_step_rank", "group_count"))
    if not (_divides(heads, inner) and _divides(groups, inner) and _divides(groups, heads)):
        raise _fail(file, f"Mamba's inner size {inner}, {heads} heads and {groups} groups do not divide each other")
    if count(file, "ssm.conv_kernel") < 2 or count(file, "ssm.state_size") < 1:
        raise _fail(file, "Mamba's convolution or state has no size")
    key, value = count(file, "attention.key_length", 0), count(file, "attention.value_length", 0)
    if key != value:
        raise _fail(file, f"attention.key_length is {key}, attention.value_length {value}, expected the same")


def _divides(part: int, whole: int) -> bool:
    return part > 0 and whole > 0 and whole % part == 0
