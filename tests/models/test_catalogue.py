from __future__ import annotations

import pytest

from nemotron_gguf.models.catalogue import MEMBERS, find_member, plain_name


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 1048576),
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", 1048576),
        ("someone/nvidia-nemotron-nano-9b-v2", 131072),
        ("nvidia/Nemotron-H-8B-Base-8K", 8192),
    ],
)
def test_members_are_found_under_any_precision_and_owner(name: str, context: int) -> None:
    member = find_member(name)
    assert member is not None
    assert member.context == context


@pytest.mark.parametrize("name", ["", "/", "my-finetune", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16-tuned"])
def test_others_are_not(name: str) -> None:
    assert find_member(name) is None


def test_each_member_finds_itself() -> None:
    assert all(find_member(f"{member.org}/{member.name}-BF16") is member for member in MEMBERS)


def test_plain_names() -> None:
    assert plain_name("a/b-BF16") == "b"
    assert plain_name("bf16") == "bf16"
