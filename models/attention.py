"""What each block of a model remembers, from the keys of a file, as libllama reads them.

Sources: `llama_model_base::load_hparams` and `create_memory` (src/llama-model.cpp), src/llama-hparams.cpp,
src/models/nemotron-h.cpp and, for sliding windows, the file of each architecture in src/models/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nemotron_gguf.models.gguf_reader import GGUFFile

# Architectures whose every block is attention over the whole context, and whose keys are read as here.
_PLAIN = frozenset((
    "llama", "deci", "nemotron", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "granite", "granitemoe", "olmo", "olmoe",
    "gemma", "starcoder2", "stablelm", "phi2", "phi3", "deepseek", "deepseek2", "glm4", "glm4moe", "internlm2",
    "command-r", "smollm3", "ernie4_5", "ernie4_5-moe", "hunyuan-dense", "hunyuan-moe", "mistral3", "seed_oss",
    "apertus",
))  # fmt: skip
# Of every so many blocks the last sees the whole context, the others a window (`load_swa_pattern`); default window.
_SLIDING = {"gemma2": (2, 4096), "gemma3": (6, 0), "cohere2": (4, 0), "gpt-oss": (2, 0), "olmo2": (4, 0)}
_NEMOTRON_H = ("nemotron_h", "nemotron_h_moe")
_MAMBA_HYBRIDS = ("jamba", "granitehybrid", "plamo2", "mamba", "mamba2", "falcon-h1")


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """A block's memory: numbers a token in keys and values, tokens of its window (0: all), numbers a sequence in the
    convolution and the recurrent state. `is_extra`: a block for drafts, which libllama leaves out."""

    keys: int = 0
    values: int = 0
    window: int = 0
    convolution: int = 0
    recurrent: int = 0
    is_extra: bool = False


class _Keys:
    """An architecture's numbers, of all blocks or of each."""

    def __init__(self, file: GGUFFile) -> None:
        self.file, self.arch = file, file.architecture
        self.n_layers = self.number("block_count", 0)
        self.n_trunk = self.n_layers - self.number("nextn_predict_layers", 0)

    def number(self, key: str, default: int) -> int:
        value = self.file.get(f"{self.arch}.{key}")
        return value if type(value) is int else default

    def each(self, key: str, default: Sequence[int]) -> list[int]:
        """A number a block, from a list or one number for all."""
        value = self.file.get(f"{self.arch}.{key}")
        if isinstance(value, list):
            numbers = [int(item) for item in value if isinstance(item, int)]
            return (numbers + [0] * self.n_layers)[: self.n_layers]
        return [value] * self.n_layers if type(value) is int else list(default)

    def heads(self) -> tuple[list[int], int, int]:
        """Heads of keys and values a block, width of a key and of a value."""
        heads = self.each("attention.head_count", [0] * self.n_layers)
        wide = self.number("embedding_length", 0) // heads[0] if heads and heads[0] else 0
        key = self.number("attention.key_length", wide) if wide else 0
        value = self.number("attention.value_length", wide) if wide else 0
        return self.each("attention.head_count_kv", heads), key, value

    def state(self) -> tuple[int, int]:
        """Numbers a sequence of Mamba's convolution and of its state."""
        inner, wide = self.number("ssm.inner_size", 0), self.number("ssm.state_size", 0)
        kernel, groups = self.number("ssm.conv_kernel", 0), self.number("ssm.group_count", 0)
        return max(kernel - 1, 0) * (inner + 2 * groups * wide), wide * inner


def memories(file: GGUFFile) -> tuple[tuple[LayerMemory, ...], bool]:
    """What each block remembers, and whether that is libllama's own reading rather than a guess."""
    keys = _Keys(file)
    if keys.arch in _NEMOTRON_H:
        return tuple(_nemotron_h(keys)), True
    layers, is_known = _attention(keys)
    return tuple(layers), is_known


def n_heads(file: GGUFFile) -> int:
    """Most heads of queries that a block has."""
    keys = _Keys(file)
    return max(keys.each("attention.head_count", [0]), default=0)


def _nemotron_h(keys: _Keys) -> list[LayerMemory]:
    """A block is Mamba where it has neither heads nor a feed-forward width, attention where it has no such width."""
    heads, key, value = keys.heads()
    widths = keys.each("feed_forward_length", [0] * keys.n_layers)
    convolution, recurrent = keys.state()
    found = []
    for layer, (n_heads, width) in enumerate(zip(heads, widths, strict=True)):
        is_extra = layer >= keys.n_trunk
        is_mamba = not (n_heads or width or is_extra)
        has_cache = not (width or is_mamba)  # a draft's block without that width gets a cache too
        found.append(
            LayerMemory(
                keys=n_heads * key * has_cache,
                values=n_heads * value * has_cache,
                convolution=convolution * is_mamba,
                recurrent=recurrent * is_mamba,
                is_extra=is_extra,
            )
        )
    return found


def _attention(keys: _Keys) -> tuple[list[LayerMemory], bool]:
    """Attention in every block, over a window in some; a Mamba beside or instead of it as far as the keys tell."""
    heads, key, value = keys.heads()
    windows, is_known = _windows(keys)
    if keys.number("attention.key_length_mla", 0) and keys.number("attention.value_length_mla", 0):
        value = 0  # latent attention: values are a view of the keys
    convolution, recurrent = keys.state()
    mamba = keys.arch in _MAMBA_HYBRIDS or bool(recurrent)
    found = []
    for layer, (n_heads, window) in enumerate(zip(heads, windows, strict=True)):
        is_extra = layer >= keys.n_trunk
        is_mamba = mamba and not is_extra and (n_heads == 0 or keys.arch == "falcon-h1")
        has_cache = not is_extra
        found.append(
            LayerMemory(
                keys=n_heads * key * has_cache,
                values=n_heads * value * has_cache,
                window=window,
                convolution=convolution * is_mamba,
                recurrent=recurrent * is_mamba,
                is_extra=is_extra,
            )
        )
    return found, is_known and not mamba


def _windows(keys: _Keys) -> tuple[list[int], bool]:
    """Tokens of each block's window, 0 for all; and whether this architecture's way is known."""
    everything = [0] * keys.n_layers
    if keys.arch not in _SLIDING:
        return everything, keys.arch in _PLAIN
    pattern, default = _SLIDING[keys.arch]
    window = keys.number("attention.sliding_window", default)
    if not window:
        return everything, True
    listed = keys.file.get(f"{keys.arch}.attention.sliding_window_pattern")
    if isinstance(listed, list):
        return [window if is_sliding else 0 for is_sliding in listed][: keys.n_layers], True
    step = keys.number("attention.sliding_window_pattern", pattern)
    return [window if step == 0 or layer % step < step - 1 else 0 for layer in range(keys.n_layers)], True
