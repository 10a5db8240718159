"""The preflight: a file's container, then every rule for the model that it holds."""

from __future__ import annotations

from pathlib import Path

from nemotron_gguf.models.errors import printable
from nemotron_gguf.models.gguf_parts import SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, read_whole
from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.errors import NoModelError
from nemotron_gguf.runner.preflight.attention import check_attention
from nemotron_gguf.runner.preflight.experts import check_experts
from nemotron_gguf.runner.preflight.header import Header
from nemotron_gguf.runner.preflight.key_types import check_key_types
from nemotron_gguf.runner.preflight.layers import check_layers
from nemotron_gguf.runner.preflight.nemotron_h import check_nemotron_h
from nemotron_gguf.runner.preflight.tensors import check_tensors
from nemotron_gguf.runner.preflight.vocabulary import check_vocabulary

OTHER_KINDS = {"adapter": "an adapter", "imatrix": "an importance matrix", "mmproj": "a projector of images or sound"}


def inspect_model(path: str | Path) -> GGUFFile:
    """Read and check a model file, or all parts of one that is given by its first.

    Raises GGUFError for a file that is no sound GGUF, ModelError for parts that do not belong together, NoModelError
    for a file that holds something else, and RunnerError for a model that llama.cpp could not run.
    """
    file = read_whole(path)
    check_model(file)
    return file


def check_model(file: GGUFFile) -> None:
    """The rules alone, for a file that was read. Raises NoModelError and RunnerError."""
    _check_kind(file)
    header = Header(file)
    for check in (
        check_key_types,
        check_layers,
        check_experts,
        check_attention,
        check_vocabulary,
        check_tensors,
        check_nemotron_h,
    ):
        check(header)


def _check_kind(file: GGUFFile) -> None:
    """Whether there is a whole language model in the file at all."""
    count, kind = file.get(SPLIT_COUNT), file.get("general.type")
    what = None
    if isinstance(count, int) and count > 1 and file.get(SPLIT_TENSORS) != len(file.tensors):
        number = file.get(SPLIT_NO)
        what = f"it is part {number + 1 if isinstance(number, int) else '?'} of {count}; give the first, by its file"
    elif isinstance(kind, str) and kind in OTHER_KINDS:
        what = f"it is {OTHER_KINDS[kind]}"
    elif file.is_header_alone:
        what = "it is a header alone, without the weights"
    elif not file.tensors:
        what = "it has no weights (a vocabulary or a header alone)"
    elif not file.architecture:
        what = "general.architecture is missing, so nothing says what kind of model it is"
    elif f"{file.architecture}.block_count" not in file.metadata:
        what = f"{file.architecture}.block_count is missing, so it is no language model"
    if what:
        raise NoModelError(f"{file.path} holds no model that can be run: {printable(what)}")
