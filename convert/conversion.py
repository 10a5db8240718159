"""From an open checkpoint to the plan of its GGUF file; nothing is read but headers and small files."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from gguf import GGML_QUANT_VERSION, Keys, LlamaFileType

from nemotron_gguf.convert.architectures import nemotron_h, nemotron_h_keys
from nemotron_gguf.convert.describe import activations, describe, source_precision
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hparams import HParams, read_hparams
from nemotron_gguf.convert.parts import bind, canonical_names, with_wide_inputs
from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.convert.source.checkpoint import Checkpoint
from nemotron_gguf.convert.vocab import vocab_keys
from nemotron_gguf.models.catalogue import find_member, plain_name
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, string, u32

OutType: TypeAlias = Literal["auto", "f32", "f16", "bf16"]

_TYPES = {"f32": GGMLType.F32, "f16": GGMLType.F16, "bf16": GGMLType.BF16}
_FILE_TYPES = {
    GGMLType.F32: LlamaFileType.ALL_F32,
    GGMLType.F16: LlamaFileType.MOSTLY_F16,
    GGMLType.BF16: LlamaFileType.MOSTLY_BF16,
}


def plan_conversion(checkpoint: Checkpoint, outtype: OutType = "auto") -> FilePlan:
    """Plan the file of a checkpoint; `auto` keeps the precision that most of its weights have.

    Tensors that llama.cpp wants in F32 (norms, routers, the small Mamba tensors) are F32 in every type, and weights in
    4-bit floats keep their blocks in every type wherever libllama can run them so. The plan's
    `notes` say what a reader should know: where the context length comes from, what was left out. Raises ConvertError,
    before anything is written, for whatever is missing, left over, contradictory or not supported.
    """
    if outtype not in get_args(OutType):
        raise ConvertError(f"{outtype!r} is no type to convert to, expected {', '.join(get_args(OutType))}")
    hp = read_hparams(checkpoint.config)
    target = checkpoint.precision() if outtype == "auto" else _TYPES[outtype]
    tensors = canonical_names(checkpoint, nemotron_h.PREFIXES, nemotron_h.RENAMED)
    names = frozenset(tensors)
    mtp = nemotron_h.has_mtp(hp, names)
    ignored, notes = nemotron_h.left_out(hp, names)
    plans = bind(nemotron_h.parts(hp, names), tensors, ignored, target)
    source_keys, source_notes = source_precision(checkpoint, target, plans)
    packed = any(plan.type is GGMLType.NVFP4 for plan in plans)
    file_type = LlamaFileType.MOSTLY_NVFP4 if packed else _FILE_TYPES[target]
    context, context_note = _context(checkpoint, hp)
    tokenizer, tokenizer_notes = vocab_keys(checkpoint, hp.vocab)
    metadata: dict[str, Value] = {
        Keys.General.ARCHITECTURE: string(nemotron_h_keys.architecture(hp)),
        Keys.General.TYPE: string("model"),
        **describe(checkpoint, plans),
        **source_keys,
        **nemotron_h_keys.keys(hp, context, mtp),
        Keys.General.FILE_TYPE: u32(int(file_type)),
        Keys.General.QUANTIZATION_VERSION: u32(GGML_QUANT_VERSION),
        **activations(with_wide_inputs(plans)),
        **tokenizer,
    }
    return FilePlan(metadata, plans, notes=(context_note, *source_notes, *notes, *tokenizer_notes))


def default_name(checkpoint: Checkpoint, type_name: str) -> str:
    """The name of a file that was given none: the model's name without its precision, and the type."""
    return f"{plain_name(checkpoint.name) or 'model'}-{type_name}.gguf"


def _context(checkpoint: Checkpoint, hp: HParams) -> tuple[int, str]:
    """The supported context in tokens and a sentence that says where it comes from."""
    member = find_member(checkpoint.repo_id or checkpoint.name)
    if member is not None:
        return member.context, f"context length {member.context}: the model card of {member.org}/{member.name}"
    if hp.context is not None:
        return hp.context, f"context length {hp.context}: config.json's max_position_embeddings"
    raise ConvertError(
        "config.json lacks max_position_embeddings, and the model is not one whose context is known here"
    )
