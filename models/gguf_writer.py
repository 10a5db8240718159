"""The header of a GGUF file, from a plan: keys, tensor list, offsets. The tensors' bytes are written elsewhere."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, encode_string

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32  # bytes; the format's default where general.alignment is absent


@dataclass(frozen=True, slots=True)
class Header:
    """An encoded header: its bytes, and where each tensor's data begins and the file ends (absolute, in bytes)."""

    data: bytes
    offsets: tuple[int, ...]
    file_size: int


def encode_header(
    metadata: Mapping[str, Value],
    tensors: Iterable[tuple[str, tuple[int, ...], GGMLType]],
    alignment: int = DEFAULT_ALIGNMENT,
) -> Header:
    """Lay out a GGUF file whose tensors follow each other in the order given.

    Shapes are row-major, outermost dimension first, as numpy writes them (GGUF lists them the other way round). Each
    tensor's data is padded to `alignment`, the last one included, as ggml and gguf-py both do.
    """
    infos, relative, end = bytearray(), [], 0
    for name, shape, kind in tensors:
        infos += encode_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, end)
        relative.append(end)
        end += pad(tensor_bytes(shape, kind), alignment)
    keys = b"".join(encode_string(key) + value.encode() for key, value in metadata.items())
    head = MAGIC + struct.pack("<IQQ", VERSION, len(relative), len(metadata)) + keys + infos
    head += bytes(pad(len(head), alignment) - len(head))
    return Header(head, tuple(len(head) + offset for offset in relative), len(head) + end)


def tensor_bytes(shape: tuple[int, ...], kind: GGMLType) -> int:
    """Bytes of a tensor's data, without padding. Raises ValueError where a row is no multiple of the block."""
    return kind.row_bytes(shape[-1]) * prod(shape[:-1])


def pad(size: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-size // alignment) * alignment
