"""What a model needs, from its header: published facts of the real models. (That libllama allocates just these bytes is
shown in tests/runner/placement.)"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import Value, ValueType, array, string, u32
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.needs import Needs, Storage, Use, compute_of, needs_of
from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import PATTERN, metadata, tensors

MIB = 1 << 20


def hollow(path: Path, keys: Mapping[str, Value], shapes: Sequence[tuple[str, tuple[int, ...], GGMLType]]) -> Path:
    """A header with a hole for the weights."""
    header = encode_header(dict(keys), list(shapes))
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)
    return path


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Needs:
    path = hollow(tmp_path_factory.mktemp("nano") / "30b.gguf", metadata(), list(tensors()))
    file = read_gguf(path)
    start = time.perf_counter()
    needs = needs_of(file)
    assert time.perf_counter() - start < 0.1
    return needs


def total(needs: Needs, part: str, use: Use) -> int:
    return sum(getattr(needs, part)(layer, use) for layer in range(needs.n_layers))


def test_context_and_state_of_the_30b(nano: Needs) -> None:
    """6 KiB a token in F16 (6 layers × 2 heads × 128 × 2 × 2 bytes), 47.6 MiB of state a sequence."""
    assert nano.is_exact
    assert nano.token_bytes(Use(4096)) == 6 * 1024
    assert total(nano, "cache", Use(1 << 20)) == 6 << 30
    assert total(nano, "cache", Use(1 << 18, type_k=GGMLType.Q8_0, type_v=GGMLType.Q8_0)) == (6 << 30) // 4 * 34 // 64
    assert round(total(nano, "state", Use(4096)) / MIB, 1) == 47.6
    assert total(nano, "state", Use(4096, parallel=3)) == 3 * total(nano, "state", Use(4096))
    assert total(nano, "state", Use(4096, parallel=2, lookup=3)) == 2 * 4 * total(nano, "state", Use(4096))
    assert nano.takes_back
    assert nano.moe_layers == tuple(layer for layer, letter in enumerate(PATTERN) if letter == "E")


def test_computing_on_the_30b(nano: Needs) -> None:
    """The mask is context × ubatch × 2 bytes; libllama's own plan for a device with all layers is 79.8 MiB at 8192
    tokens and 199.8 MiB at 131072, for the processor alone 85.0 MiB."""
    at = {size: compute_of(nano, Use(size), on_device=True) for size in (8192, 131072)}
    assert at[131072] - at[8192] == (131072 - 8192) * 512 * 2
    assert at[8192] / MIB == pytest.approx(79.8, rel=0.05)
    assert at[131072] / MIB == pytest.approx(199.8, rel=0.05)
    assert compute_of(nano, Use(8192), on_device=False) / MIB == pytest.approx(85.0, rel=0.05)
    assert compute_of(nano, Use(8192), (), on_device=False) / MIB == pytest.approx(18.5, rel=0.05)
    without = compute_of(nano, Use(8192, flash=False), on_device=True)
    assert without / MIB == pytest.approx(547.5, rel=0.05)


def test_a_context_is_rounded_as_libllama_rounds_it() -> None:
    assert Use(1).cells == Use(256).cells == 256
    assert (Use(257).cells, Use(257).streams) == (512, 1)
    assert (Use(3000, parallel=4).cells, Use(3000, parallel=4).streams) == (768, 4)
    assert (Use(3000, parallel=4, kv_unified=True).cells, Use(3000, parallel=4, kv_unified=True).streams) == (3072, 1)
    assert Use(100_000).window(1024) == 1536
    assert Use(100_000, swa_full=True).window(1024) == Use(100_000).cells
    assert Use(1024).window(100_000) == 1024


def test_buffers_fill_up_as_the_device_wants() -> None:
    """CUDA pads quantized rows to 512 weights and starts tensors at 128 bytes (ggml-cuda.cu)."""
    cuda = Storage(128, 512)
    assert Storage().of(GGMLType.Q8_0, (3, 96)) == 320
    assert cuda.of(GGMLType.Q8_0, (3, 96)) == 768
    assert cuda.of(GGMLType.F32, (3, 96)) == 1152
    assert cuda.of(GGMLType.Q4_K, (2, 512)) == 640


def plain(arch: str, **numbers: int) -> dict[str, Value]:
    keys = {"block_count": 4, "embedding_length": 64, "context_length": 4096, "attention.head_count": 4}
    return {
        "general.architecture": string(arch),
        **{f"{arch}.{key.replace('__', '.')}": u32(number) for key, number in (keys | numbers).items()},
    }


SHAPES = [
    ("token_embd.weight", (32, 64), GGMLType.F32),
    *((f"blk.{layer}.ffn_up.weight", (128, 64), GGMLType.F32) for layer in range(4)),
]


def test_kinds_of_attention(tmp_path: Path) -> None:
    """Shared heads, windows of some blocks, latent keys without values, blocks for drafts."""
    grouped = needs_of(read_gguf(hollow(tmp_path / "a", plain("llama", attention__head_count_kv=2), SHAPES)))
    assert grouped.is_exact
    assert grouped.is_tied
    assert grouped.takes_back
    assert grouped.token_bytes(Use(512)) == 4 * 2 * 2 * 16 * 2
    sliding = needs_of(read_gguf(hollow(tmp_path / "b", plain("gpt-oss", attention__sliding_window=128), SHAPES)))
    assert [memory.window for memory in sliding.layers] == [128, 0, 128, 0]
    assert not sliding.takes_back
    latent = plain("deepseek2", attention__key_length_mla=8, attention__value_length_mla=8, attention__key_length=72)
    keys = needs_of(read_gguf(hollow(tmp_path / "c", latent | plain("deepseek2"), SHAPES)))
    assert all(memory.values == 0 for memory in keys.layers)
    drafts = needs_of(read_gguf(hollow(tmp_path / "d", plain("glm4moe", nextn_predict_layers=1), SHAPES)))
    assert [memory.keys > 0 for memory in drafts.layers] == [True, True, True, False]
    assert not any(tensor.layer == 3 for tensor in drafts.weights), "libllama leaves them out"


def test_what_is_not_known_is_called_an_estimate(tmp_path: Path) -> None:
    assert not needs_of(read_gguf(hollow(tmp_path / "a", plain("never-heard-of"), SHAPES))).is_exact
    mamba = plain("jamba", ssm__inner_size=64, ssm__state_size=16, ssm__conv_kernel=4)
    mamba["jamba.attention.head_count_kv"] = array(ValueType.INT32, [0, 2, 0, 2])
    needs = needs_of(read_gguf(hollow(tmp_path / "b", mamba, SHAPES)))
    assert not needs.is_exact
    assert [memory.recurrent for memory in needs.layers] == [1024, 0, 1024, 0]
