"""Tensors of every architecture: there are weights in them, of a type that llama.cpp can compute with, well placed."""

from __future__ import annotations

import re

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.runner.preflight.header import Header, same_shape

MAPPED = 32  # bytes; TENSOR_ALIGNMENT (ggml/src/ggml-impl.h), asserted of where a mapped file's weights begin
# Those that have no product of vectors in ggml (type_traits_cpu): results of a computation, and plain numbers.
NO_WEIGHTS = (
    GGMLType.Q8_1,
    GGMLType.Q8_K,
    GGMLType.I8,
    GGMLType.I16,
    GGMLType.I32,
    GGMLType.I64,
    GGMLType.F64,
)
_SINGLE = re.compile(r"(?:norm\.weight|\.bias|\.ssm_a|\.ssm_d|\.ssm_conv1d\.weight|\.shortconv\.conv\.weight)$")
_MATRIX = re.compile(
    r"(?:^(?:token_embd|output)|\.(?:attn_(?:q|k|v|qkv|output)|ssm_(?:in|out)|ffn_(?:up|down|gate|gate_inp)"
    r"|ffn_(?:up|down|gate)_(?:exps|shexp)|ffn_latent_(?:up|down)|nextn\.eh_proj))\.weight$"
)


def check_tensors(header: Header) -> None:
    """Sizes, types and places; the token embedding's shape."""
    vocabulary = header.file.metadata["tokenizer.ggml.tokens"].data  # the rules of the vocabulary found it there
    expected = (len(vocabulary), header.number("embedding_length"))  # type: ignore[arg-type]
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or not same_shape(embedding.shape, expected):
        what = "missing" if embedding is None else f"of shape {list(embedding.shape)}"
        raise header.fail(f"token_embd.weight is {what}, expected {list(expected)} (tokens × embedding length)")
    for tensor in header.file.tensors:
        if not tensor.n_elements:
            raise header.fail(f"tensor {tensor.name} of shape {list(tensor.shape)} has no weights")
        if _SINGLE.search(tensor.name) and tensor.type is not GGMLType.F32:
            raise header.fail(f"tensor {tensor.name} is of type {tensor.type.name}, expected F32")
        if _MATRIX.search(tensor.name) and tensor.type in NO_WEIGHTS:
            raise header.fail(f"tensor {tensor.name} is of type {tensor.type.name}, which weights cannot have")
        if tensor.offset % MAPPED:
            raise header.fail(
                f"tensor {tensor.name} begins at byte {tensor.offset}, which is no multiple of {MAPPED}"
                f" (general.alignment is {header.file.alignment})"
            )
