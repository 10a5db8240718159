"""What a model needs in memory, from a file's header alone: weights, cache of the context, recurrent state.

The arithmetic is libllama's own, to the byte: src/llama-model-loader.cpp and ggml/src/ggml-alloc.c for weights,
src/llama-kv-cache.cpp, llama-kv-cache-iswa.cpp and llama-memory-recurrent.cpp for the rest, src/llama-context.cpp for
how a context is rounded. It is exact for the Nemotron family and for plain attention; where a file keeps a memory of a
kind unknown here, `Needs.is_exact` is false and the figures are an estimate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from nemotron_gguf.models.attention import LayerMemory, memories, n_heads
from nemotron_gguf.models.compute import block_widths
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo
from nemotron_gguf.models.gguf_writer import pad

CONTEXT_STEP = 256  # cells: llama_context rounds every context up to it
INPUT = -1  # the "layer" of what libllama always keeps on the processor
EXPERTS = re.compile(r"\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps")  # LLM_FFN_EXPS_REGEX (common/common.h)
_BLOCK = re.compile(r"blk\.(\d{1,9})\.")
_INPUTS = ("token_embd.", "token_types.", "position_embd.", "per_layer_token_embd.")  # src/llama-arch.cpp
_EVERY_LAYER = ("rope_freqs.", "rope_factors_")  # one copy in each buffer that has layers
_FIRST_LAYER = ("token_embd_norm.",)
_ROLL_BACK = (  # recurrent states of which libllama keeps copies: llm_arch_supports_rs_rollback (src/llama-arch.cpp)
    "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen4exp", "deepseek4", "bailingmoe3", "lfm2", "lfm2moe",
    "kimi-k3", "glm5-next",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storage:
    """How a device's buffers hold tensors: each at a multiple of `alignment` bytes, quantized rows filled up to
    `row_padding` weights (512 with CUDA)."""

    alignment: int = 32
    row_padding: int = 1

    def of(self, kind: GGMLType, shape: tuple[int, ...]) -> int:
        """Bytes that a tensor takes; `shape` has the outermost dimension first."""
        return _stored(self.alignment, self.row_padding, kind, shape)


@lru_cache(maxsize=1 << 14)  # a plan asks for the same shapes again and again
def _stored(alignment: int, row_padding: int, kind: GGMLType, shape: tuple[int, ...]) -> int:
    rest = shape[-1] % row_padding
    filled = kind.row_bytes(row_padding - rest) if kind.is_quantized and rest else 0
    return pad(kind.row_bytes(shape[-1]) * prod(shape[:-1]) + filled, alignment) if prod(shape) else 0


HOST = Storage()


@dataclass(frozen=True, slots=True)
class Use:
    """How a model is to be run: tokens of context for `parallel` sequences together, types of the cache.

    `kv_unified`, `swa_full` and the batches are llama_context_params' of that name; `flash` whether flash attention is
    on, without which the cache of values is laid out otherwise and attention takes more to compute. `lookup` tokens can
    be taken back, for which as many copies of a recurrent state are kept.
    """

    ctx_size: int
    parallel: int = 1
    type_k: GGMLType = GGMLType.F16
    type_v: GGMLType = GGMLType.F16
    batch: int = 512
    ubatch: int = 512
    kv_unified: bool = False
    swa_full: bool = False
    flash: bool = True
    lookup: int = 0

    @property
    def cells(self) -> int:
        """Tokens that one stream of the cache holds."""
        whole = pad(self.ctx_size, CONTEXT_STEP)
        return whole if self.kv_unified else pad(whole // self.parallel, CONTEXT_STEP)

    @property
    def streams(self) -> int:
        """Caches side by side."""
        return 1 if self.kv_unified else self.parallel

    @property
    def tokens(self) -> int:
        """Tokens computed at a time."""
        return min(self.ctx_size, self.batch, self.ubatch)

    @property
    def outputs(self) -> int:
        """Tokens of which the logits are wanted at a time."""
        return max(self.parallel, 1 + self.lookup)

    def window(self, n_window: int) -> int:
        """Cells of a layer with a sliding window of that many tokens, 0 for one without."""
        if not n_window or self.swa_full:
            return self.cells
        return pad(min(self.cells, n_window * (self.parallel if self.kv_unified else 1) + self.tokens), CONTEXT_STEP)


@dataclass(frozen=True, slots=True)
class Weights:
    """A tensor and where it belongs: `layer` is a block's number, INPUT, or the number of blocks for the output."""

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    part: int
    layer: int
    is_expert: bool

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.type.row_bytes(self.shape[-1]) * self.n_rows

    @property
    def n_rows(self) -> int:
        """Rows of all matrices of the tensor."""
        return prod(self.shape[:-1])

    def is_repacked(self, repacks: Mapping[str, int]) -> bool:
        """Whether the processor keeps it in an order of its own (ggml/src/ggml-cpu/repack.cpp)."""
        rows = repacks.get(self.type.name, 0)
        many = len(self.shape) > 1 and all(size > 1 for size in self.shape[:-1])
        return bool(rows) and many and self.layer != INPUT and self.shape[-2] % rows == 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a file's header says about memory.

    `layers` has an entry a block, those that libllama leaves out as well; `widths` has the numbers a token that a block
    holds at a time while it computes, an estimate.
    """

    architecture: str
    n_embd: int
    n_vocab: int
    trained_context: int
    weights: tuple[Weights, ...]
    layers: tuple[LayerMemory, ...]
    is_exact: bool
    n_heads: int
    widths: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """Blocks, as libllama counts them for --n-gpu-layers; the output is one more."""
        return len(self.layers)

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Blocks with experts."""
        return tuple(sorted({tensor.layer for tensor in self.weights if tensor.is_expert}))

    @property
    def is_tied(self) -> bool:
        """Whether the output is the embedding once more, which libllama keeps twice where they are on two devices."""
        return not any(tensor.name == "output.weight" for tensor in self.weights)

    @property
    def takes_back(self) -> bool:
        """Whether the latest tokens can be taken back: no window forgets, states are copied or there are none."""
        is_recurrent = any(memory.recurrent or memory.convolution for memory in self.layers)
        return not any(memory.window for memory in self.layers) and (not is_recurrent or self.keeps_states)

    @property
    def keeps_states(self) -> bool:
        """Whether libllama can keep copies of recurrent states."""
        return self.architecture in _ROLL_BACK

    def cache(self, layer: int, use: Use, storage: Storage = HOST) -> int:
        """Bytes of a block's keys and values."""
        memory = self.layers[layer]
        cells = use.window(memory.window)
        wide = memory.values if use.flash or not memory.values else max(one.values for one in self.layers)
        return sum(
            storage.of(kind, (use.streams, cells, width))
            for kind, width in ((use.type_k, memory.keys), (use.type_v, wide))
        )

    def state(self, layer: int, use: Use, storage: Storage = HOST) -> int:
        """Bytes of a block's recurrent state and its copies: numbers in F32, rows for all sequences."""
        memory, n_rows = self.layers[layer], use.parallel * (1 + use.lookup * self.keeps_states)
        return sum(storage.of(GGMLType.F32, (n_rows, width)) for width in (memory.convolution, memory.recurrent))

    def token_bytes(self, use: Use) -> float:
        """Bytes of cache that one more token takes, sliding windows left out."""
        whole = (memory for memory in self.layers if not memory.window)
        return sum(_a_row(use.type_k, memory.keys) + _a_row(use.type_v, memory.values) for memory in whole)

    def logits(self, use: Use) -> int:
        """Bytes of the buffer in which the processor gets the logits, at its largest."""
        return 4 * self.n_vocab * use.outputs

    def total_weights(self) -> int:
        """Bytes of all weights that libllama loads, the output of a tied model once."""
        return sum(HOST.of(tensor.type, tensor.shape) for tensor in self.weights)


def needs_of(file: GGUFFile) -> Needs:
    """What a model needs, in milliseconds. `file` has passed the preflight; of a split one it is the whole."""
    layers, is_exact = memories(file)
    n_trunk = sum(not memory.is_extra for memory in layers)
    found = tuple(_placed(file.tensors, len(layers), n_trunk))
    embedding = next((tensor.shape for tensor in file.tensors if tensor.name == "token_embd.weight"), (0, 0))
    trained = file.get(f"{file.architecture}.context_length")
    return Needs(
        architecture=file.architecture,
        n_embd=embedding[-1],
        n_vocab=embedding[0],
        trained_context=trained if type(trained) is int and trained > 0 else 0,
        weights=found,
        layers=layers,
        is_exact=is_exact,
        n_heads=n_heads(file),
        widths=block_widths(file, len(layers)),
    )


def _placed(tensors: Iterable[TensorInfo], n_layers: int, n_trunk: int) -> Iterable[Weights]:
    """The tensors that libllama loads; those of blocks for drafts (multi-token prediction) it leaves out."""
    part, last = 0, -1
    for tensor in tensors:
        part, last = part + (tensor.offset < last), tensor.offset
        layer = _layer_of(tensor.name, n_layers)
        if layer < n_trunk or layer == n_layers:
            expert = EXPERTS.search(tensor.name) is not None
            yield Weights(tensor.name, tensor.shape, tensor.type, tensor.offset, part, layer, expert)


def _layer_of(name: str, n_layers: int) -> int:
    match = _BLOCK.match(name)
    if match:
        return int(match[1])
    if name.startswith(_INPUTS):
        return INPUT
    return 0 if name.startswith(_EVERY_LAYER + _FIRST_LAYER) else n_layers


def is_everywhere(tensor: Weights) -> bool:
    """Whether every device with layers has a copy of it (the factors of the rotary embedding)."""
    return tensor.name.startswith(_EVERY_LAYER)


def _a_row(kind: GGMLType, width: int) -> float:
    return width * kind.type_size / kind.block_size


def _copied(memory: LayerMemory, use: Use) -> int:
    """Numbers of the states that a block gives, and what it takes."""
    return (2 * memory.convolution + memory.recurrent * (1 + use.lookup)) * use.parallel


def compute_of(needs: Needs, use: Use, blocks: Sequence[int] | None = None, *, on_device: bool) -> int:
    """An estimate of the bytes to compute with, of one device or (`on_device` false) of the processor.

    `blocks` are those that it computes, all if not given; a processor that has none hands over inputs to the devices.
    """
    own = (
        [] if blocks is not None and not blocks else [needs.layers[block] for block in blocks or range(needs.n_layers)]
    )
    seen = own if on_device or own else needs.layers
    masks = {use.window(memory.window) for memory in seen if memory.keys}
    nbytes = sum(masks) * use.tokens * (2 if use.flash else 4)
    if not own:
        return nbytes + 2 * 4 * needs.n_embd * use.tokens
    kept = max(memory.convolution * 2 + memory.recurrent for memory in own)
    widths = [needs.widths[block] for block in blocks or range(needs.n_layers)]
    held = max(widths) * use.tokens + kept * use.parallel
    if use.lookup and needs.keeps_states:  # the block with the states gives all their copies
        held = max(
            held, *(_copied(memory, use) + width * use.tokens for memory, width in zip(own, widths, strict=True))
        )
    scores = 0 if use.flash else (needs.n_heads * max(masks, default=0) + 5 * needs.n_embd) * use.tokens
    results = (needs.n_vocab + 2 * needs.n_embd) * use.outputs
    return nbytes + 4 * (max(held, scores, results) + (0 if on_device else needs.n_embd * use.tokens))
