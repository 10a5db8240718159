"""An estimate of what libllama computes with, beside weights, cache and state.

Its graph allocator gives memory back as soon as a value was used, so the block that holds most at a time decides. What
is held is counted here from the shapes of a block's matrices; the counts follow the graphs in src/models/ and were
fitted to what the library plans for Nemotron 3, SmolLM2 and Gemma 3. The library itself is asked by
`runner.engine.probe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

from nemotron_gguf.models.gguf_reader import GGUFFile

Shapes = Mapping[str, tuple[int, ...]]
_BLOCK = re.compile(r"blk\.(\d{1,9})\.(.+)\.weight")


def block_widths(file: GGUFFile, n_layers: int) -> tuple[int, ...]:
    """Numbers (of 4 bytes) a token that each block holds at a time, its inputs among them."""
    blocks: list[dict[str, tuple[int, ...]]] = [{} for _ in range(n_layers)]
    for tensor in file.tensors:
        match = _BLOCK.match(tensor.name)
        if match and int(match[1]) < n_layers:
            blocks[int(match[1])][match[2]] = tensor.shape
    embedding = next((tensor.shape[-1] for tensor in file.tensors if tensor.name == "token_embd.weight"), 0)
    used, inputs = _experts_used(file), 7 * embedding // 2
    return tuple(max(kind(shapes, used) for kind in (_mamba, _experts, _mlp, _attention)) + inputs for shapes in blocks)


def _experts_used(file: GGUFFile) -> int:
    value = file.get(f"{file.architecture}.expert_used_count")
    numbers = value if isinstance(value, list) else [value]
    return max((item for item in numbers if isinstance(item, int)), default=0)


def _rows(shapes: Shapes, name: str) -> int:
    """Numbers that a matrix makes of a token."""
    shape = shapes.get(name, ())
    return prod(shape[:-1]) if len(shape) == 2 else shape[-2] if len(shape) == 3 else 0


def _mamba(shapes: Shapes, _used: int) -> int:
    """The projection, the convolution's input and output, what the scan gives."""
    convolved = shapes.get("ssm_conv1d", (0,))[0]
    return _rows(shapes, "ssm_in") + 2 * convolved + shapes.get("ssm_out", (0, 0))[-1]


def _experts(shapes: Shapes, used: int) -> int:
    """Each chosen expert's inner values (gated ones have three) and result."""
    inner = _rows(shapes, "ffn_up_exps") or _rows(shapes, "ffn_gate_up_exps")
    return used * (inner * (3 if "ffn_gate_exps" in shapes else 1) + _rows(shapes, "ffn_down_exps"))


def _mlp(shapes: Shapes, _used: int) -> int:
    return _rows(shapes, "ffn_up") * (3 if "ffn_gate" in shapes else 1)


def _attention(shapes: Shapes, _used: int) -> int:
    """Queries before and after their place is turned in, the result; keys and values likewise."""
    fused = _rows(shapes, "attn_qkv")
    keys = _rows(shapes, "attn_k") + _rows(shapes, "attn_v")
    return 2 * fused + 3 * _rows(shapes, "attn_q") + 2 * keys
