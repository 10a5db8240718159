"""Numbers of experts, which llama.cpp asserts (load_hparams in src/llama-model.cpp)."""

from __future__ import annotations

from nemotron_gguf.runner.preflight.header import Header

MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS (src/llama-hparams.h)


def check_experts(header: Header) -> None:
    """As many experts are used as there can be, and their groups divide them."""
    n_experts, used = header.number("expert_count", 0), max(header.per_layer("expert_used_count"))
    groups, groups_used = header.number("expert_group_count", 0), header.number("expert_group_used_count", 0)
    if header.architecture in ("hunyuan-dense", "hunyuan_vl") and n_experts <= 1:
        n_experts = used = 0  # llama.cpp takes one expert for none there
    lowest = 1 if n_experts else 0
    if not (n_experts <= MAX_EXPERTS and lowest <= used <= n_experts):
        expected = f"expected {lowest} to {min(n_experts, MAX_EXPERTS)}"
        raise header.fail(f"{used} experts of {n_experts} are used, {expected}")
    if groups and groups >= n_experts:
        raise header.fail(f"{n_experts} experts are in {groups} groups")
    if groups > 1 and (n_experts % groups or not 0 < groups_used < groups):
        raise header.fail(f"{n_experts} experts are in {groups} groups, {groups_used} of them used")
