"""The family: NVIDIA's hybrid Nemotron models, by their names on the Hub, and the context each supports.

A config's `max_position_embeddings` is what a checkpoint was last tuned with or a serving default (262144 for Nemotron
3 Nano 30B-A3B); the supported length is on the model card, and that is what the table holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

K = 1024  # tokens


@dataclass(frozen=True, slots=True)
class Member:
    """A model: its Hub repository without the part that names the precision, and its context in tokens.

    `org` is the organisation that publishes it; a copy under another organisation has the same name.
    """

    name: str
    context: int
    org: str = "nvidia"


# Source of each context: "Context length" on the model card of the repository of that name.
MEMBERS = (
    Member("NVIDIA-Nemotron-3-Nano-30B-A3B", 1024 * K),
    Member("NVIDIA-Nemotron-3-Nano-30B-A3B-Base", 1024 * K),
    Member("NVIDIA-Nemotron-3-Nano-4B", 256 * K),
    Member("NVIDIA-Nemotron-3-Super-120B-A12B", 1024 * K),
    Member("NVIDIA-Nemotron-3-Super-120B-A12B-Base", 1024 * K),
    Member("NVIDIA-Nemotron-3-Ultra-550B-A55B", 1024 * K),
    Member("NVIDIA-Nemotron-3-Ultra-550B-A55B-Base", 1024 * K),
    Member("NVIDIA-Nemotron-Nano-9B-v2", 128 * K),
    Member("NVIDIA-Nemotron-Nano-9B-v2-Base", 128 * K),
    Member("NVIDIA-Nemotron-Nano-12B-v2", 128 * K),
    Member("NVIDIA-Nemotron-Nano-12B-v2-Base", 128 * K),
    Member("Nemotron-H-4B-Base-8K", 8 * K),
    Member("Nemotron-H-4B-Instruct-128K", 128 * K),
    Member("Nemotron-H-8B-Base-8K", 8 * K),
    Member("Nemotron-H-8B-Reasoning-128K", 128 * K),
    Member("Nemotron-H-47B-Base-8K", 8 * K),
    Member("Nemotron-H-47B-Reasoning-128K", 128 * K),
    Member("Nemotron-H-56B-Base-8K", 8 * K),
)

_BY_NAME = {member.name.lower(): member for member in MEMBERS}
_PRECISION = re.compile(r"[-_.](bf16|fp?16|fp?32|fp8|nvfp4|hf)$", re.IGNORECASE)


def plain_name(name: str) -> str:
    """A model's name without its organisation and without the precision at its end.

    >>> plain_name("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")
    'NVIDIA-Nemotron-3-Nano-30B-A3B'
    """
    return _PRECISION.sub("", name.rpartition("/")[2])


def find_member(name: str) -> Member | None:
    """The family member of that name (`org/name` or `name`, any precision), None where there is none."""
    return _BY_NAME.get(plain_name(name).lower())
