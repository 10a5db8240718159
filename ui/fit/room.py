"""What is left for weights on a card: its memory, less what is kept free, the context, the state and what is computed
with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.needs import INPUT, Storage, Use, compute_of, needs_of

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.models.gguf_reader import GGUFFile
    from nemotron_gguf.models.needs import Needs
    from nemotron_gguf.quant.fit.choice import Cost

CARD = Storage(alignment=128, row_padding=512)  # CUDA's, the strictest
STEP = 256  # tokens: contexts are whole steps


@dataclass(frozen=True)
class Sum:
    """What a file needs, in bytes: `weights` to `compute` on the card, `host` beside it (the embedding, inputs)."""

    weights: int
    cache: int
    state: int
    compute: int
    host: int

    @property
    def total(self) -> int:
        """All of it on the card."""
        return self.weights + self.cache + self.state + self.compute


def header_of(plan: FilePlan) -> GGUFFile:
    """The planned file's header, as a reader would have it."""
    from pathlib import Path

    from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo
    from nemotron_gguf.models.gguf_writer import VERSION

    header = plan.header
    tensors = tuple(
        TensorInfo(tensor.name, tensor.shape, tensor.type, offset, tensor.nbytes)
        for tensor, offset in zip(plan.tensors, header.offsets, strict=True)
    )
    return GGUFFile(Path("planned.gguf"), VERSION, plan.alignment, plan.metadata, tensors, header.file_size)


def use_of(context: int, parallel: int, cache_type: GGMLType) -> Use:
    """How the model will run: tokens of context for all sequences together."""
    return Use(context, parallel, cache_type, cache_type)


def sum_of(needs: Needs, use: Use) -> Sum:
    """What a planned file needs on one card with all its layers."""
    layers, copies = range(needs.n_layers), _copies(needs)
    inputs = sum(tensor.nbytes for tensor in needs.weights if tensor.layer == INPUT)
    return Sum(
        sum(CARD.of(tensor.type, tensor.shape) * copies[tensor.name] for tensor in needs.weights),
        sum(needs.cache(layer, use, CARD) for layer in layers),
        sum(needs.state(layer, use, CARD) for layer in layers),
        compute_of(needs, use, on_device=True),
        inputs + compute_of(needs, use, (), on_device=False) + needs.logits(use),
    )


def cost_on_card(needs: Needs) -> Cost:
    """What a tensor takes of the card: nothing for the embedding, which libllama keeps beside the processor."""
    copies = _copies(needs)

    def cost(name: str, shape: tuple[int, ...], kind: GGMLType) -> int:
        return copies.get(name, 0) * CARD.of(kind, shape)

    return cost


def _copies(needs: Needs) -> dict[str, int]:
    """How often each tensor lies on the card."""
    return {
        one.name: int(one.layer != INPUT or (needs.is_tied and one.name == "token_embd.weight"))
        for one in needs.weights
    }


def longest_context(needs: Needs, use: Use, room: int) -> int:
    """The most tokens of context with which the file fits into `room` bytes of a card, 0 for none."""
    low, high = 0, (needs.trained_context or 1 << 20) // STEP
    while low < high:
        middle = (low + high + 1) // 2
        fits = sum_of(needs, replace(use, ctx_size=middle * STEP)).total <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * STEP


def needs_of_plan(plan: FilePlan) -> Needs:
    """What a planned file needs, from its header."""
    return needs_of(header_of(plan))
