"""Scales that stand beside a tensor: of a weight whose blocks cannot hold them, and of what it is multiplied with.

Source: the generic pass of `llama_model_base::load_tensors` (src/llama-model.cpp), and `build_ffn`
(src/llama-graph.cpp), which asserts that nothing comes between a product of NVFP4 and its scale.
"""

from __future__ import annotations

import re

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.preflight.header import Header, same_shape

ENDINGS = (".scale", ".input_scale")
_PLACES = re.compile(
    r"(?:output|blk\.\d+\.(?:attn_(?:q|k|v|qkv|output)|ssm_(?:in|out)|ffn_(?:up|down)(?:_exps|_shexp)?|nextn\.eh_proj))"
)


def check_scales(header: Header) -> set[str]:
    """Scales have a place, one number for each matrix, in F32; returns their names."""
    names = {name for name in header.tensors if name.endswith(ENDINGS)}
    for name in sorted(names):
        stem = name.rpartition(".")[0]
        scale, weight = header.tensors[name], header.tensors.get(f"{stem}.weight")
        if weight is None or not _PLACES.fullmatch(stem):
            raise header.fail(f"tensor {name} scales nothing that llama.cpp would multiply by it")
        if stem == "output" and weight.type is not GGMLType.NVFP4:
            raise header.fail(f"tensor {name} scales an output of type {weight.type.name}, which llama.cpp does not do")
        expected = (weight.shape[0],) if stem.endswith("_exps") else (1,)
        if scale.type is not GGMLType.F32 or not same_shape(scale.shape, expected):
            raise header.fail(
                f"tensor {name} is of type {scale.type.name} and shape {list(scale.shape)},"
                f" expected F32 and {list(expected)}"
            )
        alone = "ffn" not in stem or name.endswith(".input_scale") or f"{stem}.bias" not in header.tensors
        if weight.type is GGMLType.NVFP4 and not alone:
            raise header.fail(f"tensor {stem}.weight is NVFP4 with both a scale and a bias, which llama.cpp cannot run")
    return names
