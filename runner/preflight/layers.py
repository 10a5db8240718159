"""How many layers there are, and whether those are the ones that have tensors."""

from __future__ import annotations

from nemotron_gguf.runner.preflight.header import Header

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS (src/llama-hparams.h)


def check_layers(header: Header) -> None:
    """The layers counted are the layers found. A layer that has neither heads nor a width may be empty (deci)."""
    n_layers, n_predicting = header.n_layers, header.n_predicting
    if not 1 <= n_layers <= MAX_LAYERS:
        raise header.fail(f"{header.name('block_count')} is {n_layers}, expected 1 to {MAX_LAYERS}")
    if not 0 <= n_predicting < n_layers:
        raise header.fail(f"{header.name('nextn_predict_layers')} is {n_predicting} of {n_layers} layers")
    beyond = [layer for layer in header.layers if layer >= n_layers]
    if beyond:
        raise header.fail(
            f"{header.name('block_count')} is {n_layers}, but there are tensors of layer {max(beyond)} (from 0)"
        )
    widths, heads = header.per_layer("feed_forward_length"), header.per_layer("attention.head_count")
    may_be_empty = {
        layer for layer in range(n_layers) if header.architecture == "deci" and not widths[layer] + heads[layer]
    }
    missing = set(range(n_layers - n_predicting)) - header.layers - may_be_empty
    if missing:
        raise header.fail(f"{header.name('block_count')} is {n_layers}, but layer {min(missing)} has no tensors")
