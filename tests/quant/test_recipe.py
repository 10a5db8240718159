"""File types, their rules and what overrules them; the rules as a whole are compared with llama.cpp in against/."""

from __future__ import annotations

import llama_cpp
import pytest

from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant import FILE_TYPES, QuantError, QuantizeOptions, file_type, parse_tensor_type, tensor_type
from nemotron_gguf.quant.place import Kind, Model, Place, kind_of, layer_of, more_bits
from nemotron_gguf.quant.recipe import choose, fitting, recipe

MODEL = Model(n_layer=52, n_expert=128, gqa=0, n_attn_v=6, is_tied=False, is_70b=False, has_imatrix=False)


@pytest.mark.parametrize("kind", FILE_TYPES, ids=lambda kind: kind.name)
def test_numbers_of_file_types(kind: object) -> None:
    """`general.file_type` as llama.cpp counts, where the installed binding names the type."""
    name = f"LLAMA_FTYPE_{'ALL' if kind.name == 'F32' else 'MOSTLY'}_{kind.name}"  # type: ignore[attr-defined]
    assert getattr(llama_cpp, name) == kind.number  # type: ignore[attr-defined]


def test_names_of_file_types() -> None:
    """Upper or lower case, aliases and numbers, as llama-quantize takes them."""
    assert [file_type(name).name for name in ("q4_k", "Q3_K", "Q5_K", "15", "7")] == [
        *("Q4_K_M", "Q3_K_M", "Q5_K_M", "Q4_K_M", "Q8_0")
    ]
    assert len({kind.name for kind in FILE_TYPES}) == len({kind.number for kind in FILE_TYPES}) == len(FILE_TYPES) == 35
    for wrong in ("", "Q4", "Q4_K_XL", "F64", "33", "-1"):
        with pytest.raises(QuantError, match="expected one of"):
            file_type(wrong)


def test_names_of_tensor_types() -> None:
    assert (tensor_type("q4_K"), tensor_type("f16"), tensor_type("MXFP4")) == (T.Q4_K, T.F16, T.MXFP4)
    for wrong in ("", "q4_k_m", "q8_1", "q8_K", "i32", "f64"):
        with pytest.raises(QuantError, match="expected one of"):
            tensor_type(wrong)


def test_patterns_of_tensor_types() -> None:
    pattern, kind = parse_tensor_type(r"blk\.\d+\.FFN_down=q6_k")
    assert kind is T.Q6_K
    assert pattern.search("blk.12.ffn_down_exps.weight")
    for wrong in ("", "ffn", "=q8_0", "ffn=", "ffn=q9", "ffn(=q8_0", "[=q8_0"):
        with pytest.raises(QuantError):
            parse_tensor_type(wrong)


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("token_embd.weight", Kind.TOKEN_EMBD, None),
        ("output.weight", Kind.OUTPUT, None),
        ("output_norm.weight", Kind.OTHER, None),
        ("blk.7.attn_v.weight", Kind.ATTN_V, 7),
        ("blk.7.attn_qkv.weight", Kind.ATTN_V, 7),
        ("blk.51.ffn_down_shexp.weight", Kind.FFN_DOWN, 51),
        ("blk.0.ffn_up_exps.weight", Kind.FFN_UP, 0),
        ("blk.0.ffn_latent_down.weight", Kind.OTHER, 0),
        ("blk.3.ssm_in.weight", Kind.OTHER, 3),
        ("blk.x.ssm_in.weight", Kind.OTHER, None),
    ],
)
def test_kinds_and_layers(name: str, kind: Kind, layer: int | None) -> None:
    assert (kind_of(name), layer_of(name)) == (kind, layer)


def test_more_bits() -> None:
    """Of 52 layers: the first six, the last seven, and every third between, from the ninth on."""
    places = [Place(Kind.FFN_DOWN, 0, layer, MODEL) for layer in range(52)]
    chosen = [layer for layer, place in enumerate(places) if more_bits(place)]
    assert chosen == [*range(6), *range(8, 45, 3), *range(45, 52)]


def test_recipe_is_a_plain_function() -> None:
    """The same question, the same answer: nothing is counted inside."""
    shape = (128, 2688, 1856)
    for layer, expected in ((1, T.Q6_K), (6, T.Q4_K), (8, T.Q6_K)):
        place = Place(Kind.FFN_DOWN, 3, layer, MODEL)
        assert recipe(file_type("Q4_K_M"), shape, place) is recipe(file_type("Q4_K_M"), shape, place) is expected


@pytest.mark.parametrize(
    ("wanted", "n_per_row", "expected"),
    [
        (T.Q4_K, 2688, T.Q5_0),
        (T.Q4_K, 512, T.Q4_K),
        (T.IQ2_XXS, 1856, T.IQ4_NL),
        (T.Q6_K, 33, T.F16),
        (T.Q8_0, 48, T.F16),
        (T.Q2_0, 96, T.Q4_0),
        (T.F16, 7, T.F16),
    ],
)
def test_rows_that_do_not_fit(wanted: T, n_per_row: int, expected: T) -> None:
    assert fitting("x.weight", wanted, n_per_row) is expected


@pytest.mark.parametrize("wanted", [T.Q1_0, T.NVFP4])
def test_types_without_a_smaller_relative(wanted: T) -> None:
    with pytest.raises(QuantError, match=r"tensor x\.weight has rows of 96 weights"):
        fitting("x.weight", wanted, 96)


@pytest.mark.parametrize("name", ["ffn_up.weight", "blk.52.ffn_down.weight", "blk.600.ffn_gate.weight"])
def test_layers_that_the_model_has_not(name: str) -> None:
    with pytest.raises(QuantError, match="none of the model's 52 layers"):
        list(choose([(name, (4, 256), T.F32)], MODEL, QuantizeOptions(file_type("Q4_K_M"))))
