"""Heads of attention as llama.cpp counts them, for every architecture."""

from __future__ import annotations

from nemotron_gguf.runner.preflight.header import Header

MAX_WINDOW = 1 << 30  # tokens; from 2^31 on, with a batch, sizes of the cache go below zero
# Architectures whose graph asserts that keys and values are equally wide, and those that assert the same of the
# rotated part (`n_embd_head == n_embd_head_k`, `n_embd_head == n_rot` in src/models/*.cpp).
EQUAL_WIDTHS = frozenset((
    "afmoe", "apertus", "arcee", "arctic", "baichuan", "bailingmoe2", "bitnet", "bloom", "chameleon", "chatglm",
    "codeshell", "cogvlm", "cohere2", "cohere2moe", "command-r", "dbrx", "deci", "deepseek", "dots1", "dream",
    "ernie4_5", "ernie4_5-moe", "exaone", "falcon", "glm4", "glm4moe", "gpt2", "gptneox", "granite", "granite_swa",
    "granitehybrid", "graniteswitch", "grok", "grovemoe", "hunyuan-moe", "hunyuan_vl", "hy_v3", "internlm2", "jais",
    "jais2", "laguna", "llada", "llada-moe", "llama", "llama4", "maincoder", "mellum", "minimax-01", "minimax-m2",
    "minimax-m3", "mistral3", "mpt", "muse-glimmer", "nanbeige", "nemotron", "nemotron_h", "nemotron_h_moe", "olmo",
    "olmo2", "olmoe", "openelm", "orion", "paddleocr", "pangu-embedded", "phi2", "phi3", "plamo", "qwen", "qwen2",
    "qwen2moe", "qwen2vl", "qwen3", "qwen35", "qwen35moe", "qwen3moe", "qwen3next", "qwen3vl", "qwen3vlmoe",
    "refact", "rnd1", "seed_oss", "smallthinker", "smollm3", "spark2_5", "stablelm", "starcoder", "starcoder2",
    "xverse",
))  # fmt: skip
ALL_ROTATED = frozenset((
    "apertus", "arcee", "arctic", "baichuan", "chameleon", "codeshell", "cogvlm", "cohere2moe", "dbrx", "deci",
    "deepseek", "dots1", "dream", "ernie4_5", "ernie4_5-moe", "exaone", "exaone-moe", "exaone4", "falcon",
    "granite", "granite_swa", "graniteswitch", "grok", "grovemoe", "hunyuan-moe", "hunyuan_vl", "hy_v3",
    "internlm2", "jais2", "llada", "llada-moe", "llama", "llama4", "maincoder", "mellum", "mistral3", "olmo",
    "olmo2", "olmoe", "orion", "paddleocr", "pangu-embedded", "plamo", "qwen2", "qwen2moe", "qwen2vl", "qwen3",
    "qwen3moe", "qwen3vl", "qwen3vlmoe", "rnd1", "seed_oss", "smallthinker", "smollm3", "starcoder2", "talkie",
    "xverse",
))  # fmt: skip

NOT_ROTATED = frozenset(("nemotron_h", "nemotron_h_moe"))  # have no rope in their graph, but the key of it


def check_attention(header: Header) -> None:
    """Heads divide, and each is as wide as the graph expects."""
    heads = header.per_layer("attention.head_count")
    heads_kv = header.per_layer("attention.head_count_kv", heads)
    if heads[0] == 0 and any(heads):
        raise header.fail(
            f"{header.name('attention.head_count')} is a list whose first entry is 0, so llama.cpp would ignore"
            " attention.key_length and find no width for the heads of the other layers"
        )
    for layer, (n_heads, n_kv) in enumerate(zip(heads, heads_kv, strict=True)):
        if n_kv and n_heads % n_kv:
            raise header.fail(f"layer {layer} has {n_heads} heads for {n_kv} of keys and values, which do not divide")
    _check_window(header)
    if heads[0]:
        _check_widths(header, heads[0])
        _check_lists(header, heads[0], heads_kv)


def _check_widths(header: Header, n_heads: int) -> None:
    """The widths of a head's key, value and rotated part."""
    default = header.number("embedding_length") // n_heads
    key, value = header.number("attention.key_length", default), header.number("attention.value_length", default)
    rotated = header.number("rope.dimension_count", key)
    if not key or not value:
        raise header.fail(f"its heads have keys of {key} and values of {value} numbers")
    if header.architecture in EQUAL_WIDTHS and key != value:
        raise header.fail(f"attention.key_length is {key}, attention.value_length {value}, expected the same")
    rotated_near = header.number("rope.dimension_count_swa", rotated)  # in layers with a sliding window
    if header.architecture in NOT_ROTATED:
        return
    if rotated > key or rotated_near > header.number("attention.key_length_swa", key):
        raise header.fail(f"rope.dimension_count is {rotated}, more than {key}, the width of a head")
    if rotated < 1 or rotated_near < 1 or rotated % 2 or rotated_near % 2:
        raise header.fail(f"rope.dimension_count is {rotated}, expected an even number above 0")
    if header.architecture in ALL_ROTATED and rotated != key:
        raise header.fail(f"rope.dimension_count is {rotated}, expected {key}, the width of a head")


def _check_lists(header: Header, n_heads: int, heads_kv: list[int]) -> None:
    """Where a list tells the heads of each layer, the weights of its keys have as many."""
    value = header.key("attention.head_count_kv")
    if value is None or not value.is_array:
        return
    default = header.number("attention.key_length", header.number("embedding_length") // n_heads)
    widths = {default, header.number("attention.key_length_swa", default)}
    for layer, n_kv in enumerate(heads_kv):
        keys = header.tensors.get(f"blk.{layer}.attn_k.weight")
        if keys is not None and keys.shape[0] not in {n_kv * width for width in widths}:
            raise header.fail(
                f"blk.{layer}.attn_k.weight has {keys.shape[0]} rows, expected {n_kv} heads of {default}"
                " (attention.head_count_kv)"
            )


def _check_window(header: Header) -> None:
    """A sliding window has a size, and there are layers that have it."""
    window, pattern = header.key("attention.sliding_window"), header.key("attention.sliding_window_pattern")
    if window is None or not isinstance(window.data, int) or not window.data:
        return
    if MAX_WINDOW < window.data < 2**32 - 1:
        raise header.fail(f"{header.name('attention.sliding_window')} is {window.data}, expected up to {MAX_WINDOW}")
    plain = pattern.plain() if pattern is not None else None
    if plain == 1 or (isinstance(plain, list) and not any(plain)):
        raise header.fail(f"{header.name('attention.sliding_window_pattern')} leaves no layer with a sliding window")
