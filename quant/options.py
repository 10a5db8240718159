"""What a user may ask of a quantization, and the words for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nemotron_gguf.convert.widths.change import BLOCK
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import FileType
from nemotron_gguf.quant.ggml_base import ENCODABLE
from nemotron_gguf.quant.trimming import Trimming

TensorType = tuple[re.Pattern[str], GGMLType]
"""A pattern that is searched in tensor names, and the type for those that have it."""

Pad: TypeAlias = Literal["auto", "all", "none"]


@dataclass(frozen=True)
class QuantizeOptions:
    """The options of llama-quantize: the file type and what overrules it.

    `tensor_types` are tried in order, the first that matches wins; `pure` gives every matrix the file type's base;
    `leave_output_tensor` keeps the output matrix as it is; `allow_requantize` permits sources that are quantized;
    `dry_run` makes missing importance a note instead of an error, for a plan that is looked at and not carried out.

    Of our own: `pad` says which widths become the next multiple of `block`: `none`, `all` that are none, those that
    make the file smaller (`auto`), or those in a set. `trim` takes neurons out instead, down to a multiple.
    """

    type: FileType
    imatrix: Imatrix | None = None
    tensor_types: tuple[TensorType, ...] = ()
    output_tensor_type: GGMLType | None = None
    token_embedding_type: GGMLType | None = None
    leave_output_tensor: bool = False
    pure: bool = False
    allow_requantize: bool = False
    dry_run: bool = False
    pad: Pad | frozenset[Dimension] = "none"
    trim: Trimming | None = None
    block: int = BLOCK


def tensor_type(name: str) -> GGMLType:
    """A type to store a tensor in, by its ggml name, upper or lower case; raises QuantError for any other."""
    for known in ENCODABLE:
        if known.name == name.upper():
            return known
    names = ", ".join(kind.name for kind in sorted(ENCODABLE))
    raise QuantError(f"{name!r} is no type that tensors can be stored in, expected one of {names}")


def parse_tensor_type(text: str) -> TensorType:
    """`REGEX=TYPE` as `--tensor-type` takes it, with the case of letters ignored; raises QuantError if it is not so."""
    pattern, equals, name = text.partition("=")
    if not (pattern and equals and name):
        raise QuantError(f"{text!r} is no tensor type, expected REGEX=TYPE such as ffn_down=Q6_K")
    try:
        return re.compile(pattern, re.IGNORECASE | re.ASCII), tensor_type(name)
    except re.error as error:
        raise QuantError(f"{pattern!r} is no regular expression: {error}") from error
