"""Which widths are padded, and what the real 30B comes to: from its shapes alone, a header with a hole for weights."""

from __future__ import annotations

import pytest

from nemotron_gguf.convert import ConvertError, FilePlan
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import string
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant import (
    QuantError,
    QuantizeOptions,
    file_type,
    parse_tensor_type,
    plan_of_file,
    plan_quantization,
    to_be_trimmed,
)
from nemotron_gguf.quant.widths import padding
from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import metadata, tensors

IMATRIX = Imatrix("none", {}, (), 0)  # whether there is one is all that matters here
HIDDEN, EXPERT, SHARED = Dimension.HIDDEN, Dimension.EXPERT, Dimension.SHARED


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> FilePlan:
    path = tmp_path_factory.mktemp("real") / "30b.gguf"
    header = encode_header(metadata(), list(tensors()))
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)
    return plan_of_file(path)


def gigabytes(plan: FilePlan, options: QuantizeOptions) -> float:
    return plan_quantization(plan, options).header.file_size / 1e9


@pytest.mark.parametrize(
    ("experts", "others", "padded", "trimmed"),
    [  # Mamba, attention and the shared expert in `others`, the embedding in Q4_K, the output in Q6_K; GB
        ("IQ4_XS", "Q6_K", 19.9, 17.6),
        ("IQ3_S", "Q6_K", 16.4, 14.6),
        ("IQ3_XXS", "Q5_K", 14.6, 13.0),
        ("IQ2_S", "Q5_K", 12.5, 11.1),
        ("IQ2_XS", "Q5_K", 11.5, 10.2),
    ],
)
def test_sizes(nano: FilePlan, experts: str, others: str, padded: float, trimmed: float) -> None:
    """The sizes that were set as the goal, each within a hundredth."""
    types = tuple(parse_tensor_type(f"{part}={kind}") for part, kind in (("_exps", experts), ("blk", others)))
    options = {"token_embedding_type": GGMLType.Q4_K, "output_tensor_type": GGMLType.Q6_K, "tensor_types": types}
    base = QuantizeOptions(file_type("Q6_K"), imatrix=IMATRIX, dry_run=True, pad="all", **options)  # type: ignore[arg-type]
    assert gigabytes(nano, base) == pytest.approx(padded, rel=0.01)
    trim = QuantizeOptions(base.type, IMATRIX, dry_run=True, pad="all", trim=to_be_trimmed(nano), **options)  # type: ignore[arg-type]
    assert gigabytes(nano, trim) == pytest.approx(trimmed, rel=0.01)


@pytest.mark.parametrize(("experts", "expected"), [("IQ4_NL", 18.9), ("MXFP4", 18.0)])
def test_types_of_32_weights_need_no_padding(nano: FilePlan, experts: str, expected: float) -> None:
    types = (parse_tensor_type(f"_exps={experts}"),)
    options = QuantizeOptions(file_type("Q8_0"), tensor_types=types, pad="auto", dry_run=True)
    assert padding(nano, options) == frozenset()
    assert gigabytes(nano, options) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, ()) for name in ("F32", "BF16", "Q8_0", "Q5_0", "Q4_0", "IQ4_NL", "IQ4_XS", "Q2_0", "Q5_K_M")),
        *((name, ()) for name in ("Q4_K_M", "Q4_K_S", "Q3_K_M")),  # smaller padded, by less than a tenth
        *((name, (HIDDEN, EXPERT)) for name in ("Q6_K", "IQ3_S", "IQ2_XS", "Q2_K")),
        ("IQ1_S", (HIDDEN, EXPERT, SHARED)),
        ("Q1_0", (EXPERT,)),  # which cannot be without
    ],
)
def test_a_width_is_padded_where_it_pays(nano: FilePlan, name: str, expected: tuple[Dimension, ...]) -> None:
    options = QuantizeOptions(file_type(name), imatrix=IMATRIX, pad="auto", dry_run=True)
    assert padding(nano, options) == set(expected)


def test_a_tenth_smaller_or_not_at_all(nano: FilePlan) -> None:
    for name, is_padded in (("Q4_K_M", False), ("Q3_K_L", False), ("IQ3_M", True), ("Q6_K", True)):
        plain = gigabytes(nano, QuantizeOptions(file_type(name), IMATRIX, dry_run=True))
        auto = gigabytes(nano, QuantizeOptions(file_type(name), IMATRIX, dry_run=True, pad="auto"))
        assert auto < 0.9 * plain if is_padded else auto == plain


def test_a_set_of_widths(nano: FilePlan) -> None:
    """As a recipe names them."""
    options = QuantizeOptions(file_type("Q3_K_S"), pad=frozenset({SHARED}), dry_run=True)
    keys = plan_quantization(nano, options).metadata
    assert keys["nemotron_h_moe.expert_shared_feed_forward_length"].plain() == 3840
    assert keys["nemotron_h_moe.embedding_length"].plain() == 2688


def test_other_models_are_left_alone_unless_asked_for(nano: FilePlan) -> None:
    other = FilePlan({**nano.metadata, "general.architecture": string("llama")}, nano.tensors)
    auto, every = (QuantizeOptions(file_type("F16"), pad=pad, dry_run=True) for pad in ("auto", "all"))
    with pytest.raises(QuantError, match="block_count"):  # as without padding
        plan_quantization(other, auto)
    with pytest.raises(ConvertError, match="architecture llama cannot be changed"):
        plan_quantization(other, every)
