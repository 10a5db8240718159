"""By what a cache knows that it belongs to this text, this file and this setting."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.runner.errors import RunnerError
from nemotron_gguf.runner.measure.chunks import Chunks
from nemotron_gguf.runner.placement.placement import Placement

_SAMPLES, _SAMPLE = 64, 4096  # pieces of a file that are looked at, and bytes of each
_VOCABULARY = ("tokenizer.ggml.tokens", "tokenizer.ggml.pre", "tokenizer.ggml.model", "tokenizer.ggml.add_bos_token")


def text_of(chunks: Chunks) -> str:
    """A name for the tokens and how they are cut."""
    about = f"{chunks.n_ctx} {chunks.bos} ".encode()
    return hashlib.sha256(about + chunks.tokens.astype("<i4").tobytes()).hexdigest()[:32]


def vocabulary_of(file: GGUFFile) -> str:
    """A name for what turns texts into tokens."""
    found = {key: file.get(key) for key in _VOCABULARY}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]


def model_of(file: GGUFFile) -> str:
    """A name for a file's content: its header, its size and samples of its bytes, so that a copy has the same.

    Raises RunnerError where it cannot be read.
    """
    digest = hashlib.sha256()
    for tensor in file.tensors:
        digest.update(f"{tensor.name} {tensor.shape} {tensor.type.name} {tensor.offset}\n".encode())
    size = file.file_size
    digest.update(str(size).encode())
    try:
        size = Path(file.path).stat().st_size  # the first part's, where there are several
        with Path(file.path).open("rb") as data:
            for index in range(_SAMPLES):
                data.seek((size - _SAMPLE) * index // (_SAMPLES - 1) if size > _SAMPLE else 0)
                digest.update(data.read(_SAMPLE))
    except OSError as error:
        raise RunnerError(f"{file.path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()[:32]


def setting_of(place: Placement) -> str:
    """Everything besides text and file that bits may depend on."""
    where = ", ".join(place.devices) or "CPU"
    layers = "" if not place.devices else f" {place.n_gpu_layers} layers"
    build = version("llama-cpp-python")
    return f"{where}{layers}, {place.threads} threads, batch {place.batch}/{place.ubatch}, llama-cpp-python {build}"
