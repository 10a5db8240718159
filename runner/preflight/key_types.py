"""Keys that libllama reads of every architecture, and the one type that it takes each in.

Source: load_hparams (src/llama-model.cpp), the loader's constructor and load of src/llama-vocab.cpp; a key of another
type is refused by llama.cpp (GGUFMeta::GKV in src/llama-model-loader.cpp).
"""

from __future__ import annotations

from nemotron_gguf.models.gguf_values import ValueType
from nemotron_gguf.runner.preflight.header import Header

GENERAL = {
    "general.architecture": ValueType.STRING,
    "general.name": ValueType.STRING,
    "general.file_type": ValueType.UINT32,
    "tokenizer.ggml.model": ValueType.STRING,
    "tokenizer.ggml.pre": ValueType.STRING,
    "tokenizer.ggml.add_bos_token": ValueType.BOOL,
    "tokenizer.ggml.add_eos_token": ValueType.BOOL,
    "tokenizer.ggml.add_sep_token": ValueType.BOOL,
    "tokenizer.ggml.add_space_prefix": ValueType.BOOL,
    "tokenizer.ggml.remove_extra_whitespaces": ValueType.BOOL,
    "tokenizer.ggml.token_type_count": ValueType.UINT32,
}
OF_ARCHITECTURE = {
    "context_length": ValueType.UINT32,
    "embedding_length": ValueType.UINT32,
    "embedding_length_out": ValueType.UINT32,
    "attention.causal": ValueType.BOOL,
    "pooling_type": ValueType.UINT32,
    "block_count": ValueType.UINT32,
    "nextn_predict_layers": ValueType.UINT32,
    "expert_count": ValueType.UINT32,
    "expert_group_count": ValueType.UINT32,
    "expert_group_used_count": ValueType.UINT32,
    "attention.key_length_swa": ValueType.UINT32,
    "attention.value_length_swa": ValueType.UINT32,
    "rope.scaling.finetuned": ValueType.BOOL,
    "rope.scaling.original_context_length": ValueType.UINT32,
    "rope.scaling.type": ValueType.STRING,
    "rope.scaling.factor": ValueType.FLOAT32,
    "rope.scaling.attn_factor": ValueType.FLOAT32,
    "rope.freq_base": ValueType.FLOAT32,
    "attention.layer_norm_epsilon": ValueType.FLOAT32,
    "attention.layer_norm_rms_epsilon": ValueType.FLOAT32,
}
ROPE_SCALING = (
    "none",
    "linear",
    "yarn",
    "longrope",
)  # llama_rope_scaling_type_from_string; others are asserted against


def check_key_types(header: Header) -> None:
    """Each key of the tables above is of its type; those that have few sane values have one of them."""
    for name, kind in GENERAL.items():
        header.scalar(name, kind)
    for key, kind in OF_ARCHITECTURE.items():
        header.scalar(header.name(key), kind)
    scaling = header.scalar(header.name("rope.scaling.type"), ValueType.STRING)
    if scaling is not None and str(scaling).partition("\0")[0] not in ROPE_SCALING:
        expected = ", ".join(ROPE_SCALING)
        raise header.fail(f"{header.name('rope.scaling.type')} is {scaling!r:.60}, expected one of {expected}")
    if header.number("context_length") < 1:
        raise header.fail(f"{header.name('context_length')} is 0")
    for key in ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"):
        epsilon = header.scalar(header.name(key), ValueType.FLOAT32)
        if epsilon is not None and not 0 <= float(epsilon) < 1:
            raise header.fail(f"{header.name(key)} is {epsilon}, expected a small number")
