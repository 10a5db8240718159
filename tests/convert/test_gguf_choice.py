"""Which GGUF of a repository is meant, by names as they are found in the wild."""

from __future__ import annotations

import pytest

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.hub.gguf_choice import choose, offers
from nemotron_gguf.convert.hub.remote import Listed

PARTS = [f"Q8_0/Big-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
UNSLOTH = [
    "Nano-Q4_K_M.gguf",
    "Nano-UD-Q4_K_XL.gguf",
    "Nano-UD-IQ2_M.gguf",
    "Nano-Q8_0.gguf",
    "mmproj-F16.gguf",
    *PARTS,
]


def repo(*names: str) -> dict[str, Listed]:
    return {name: Listed(1000 + index, None) for index, name in enumerate(names)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Name-Q4_K_M.gguf", "Q4_K_M"),
        ("name.q4_k_m.gguf", "Q4_K_M"),
        ("Name.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("Name-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Name-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("Name-BF16.gguf", "BF16"),
        ("Name-f16.gguf", "F16"),
        ("Name_Q6_K.gguf", "Q6_K"),
        ("Q5_1.gguf", "Q5_1"),
        ("Name-Q4_K_M-imat.gguf", "Q4_K_M"),
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-TQ1_0.gguf", "TQ1_0"),
        ("Q4_K_M/model.gguf", "Q4_K_M"),
        ("BF16/Name-BF16-00001-of-00001.gguf", "BF16"),
        ("Nemotron-Q4-Zoo.gguf", ""),
        ("model.gguf", ""),
        ("Name-Q8_0.GGUF", "Q8_0"),
    ],
)
def test_types_by_names(name: str, kind: str) -> None:
    assert [offer.type for offer in offers(repo(name))] == [kind]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (None, "Nano-Q4_K_M.gguf"),
        ("q4_k_m", "Nano-Q4_K_M.gguf"),
        ("Q4_K_XL", "Nano-UD-Q4_K_XL.gguf"),
        ("ud-q4_k_xl", "Nano-UD-Q4_K_XL.gguf"),
        ("IQ2_M", "Nano-UD-IQ2_M.gguf"),
        ("Nano-Q8_0.gguf", "Nano-Q8_0.gguf"),
        ("Q8_0/Big-Q8_0", PARTS[0]),
        ("Big-Q8_0", PARTS[0]),
        (PARTS[0], PARTS[0]),
    ],
)
def test_what_is_asked_for(wanted: str | None, first: str) -> None:
    assert choose("a/b", repo(*UNSLOTH), wanted).parts[0] == first


def test_parts_come_together() -> None:
    offer = choose("a/b", repo(*reversed(PARTS)), "Q8_0")
    assert list(offer.parts) == PARTS
    assert offer.size == 3003


def test_the_only_one_needs_no_name() -> None:
    assert choose("a/b", repo("Name-Q8_0.gguf", "mmproj-F16.gguf", "imatrix.gguf"), None).type == "Q8_0"
    with pytest.raises(ConvertError, match=r"no Q4_0; choose by a/b:TYPE from Q8_0"):
        choose("a/b", repo("Name-Q8_0.gguf"), "Q4_0")


@pytest.mark.parametrize(
    ("names", "wanted", "words"),
    [
        (UNSLOTH, "Q8_0", r"2 models of type Q8_0; name the file.*Nano-Q8_0.gguf, Q8_0/Big-Q8_0-00001"),
        (UNSLOTH, "F16", r"no F16; choose by a/b:TYPE from Q4_K_M \(1e-06 GB\), "),
        (["A-Q8_0.gguf", "A-Q6_K.gguf"], None, r"no Q4_K_M; choose by a/b:TYPE from Q6_K .*, Q8_0"),
        (["mmproj-F16.gguf", "my-mmproj.gguf", "a.imatrix.gguf", "ggml-vocab-x.gguf"], None, "no complete model"),
        (PARTS[:2], None, "no complete model in GGUF"),
        (["Big-Q8_0-00000-of-00003.gguf", "Big-Q8_0-00004-of-00003.gguf"], None, "no complete model"),
        (["config.json", "model.safetensors"], None, "has no GGUF file"),
        ([f"A{n}-Q{n % 7}_0.gguf" for n in range(100)], None, "and 70 more"),
        (["a\n\x1b[2Jb.gguf", "c.gguf"], None, r"\\n\\x1b"),
    ],
)
def test_what_cannot_be_told_is_listed(names: list[str], wanted: str | None, words: str) -> None:
    with pytest.raises(ConvertError, match=words) as caught:
        choose("a/b", repo(*names), wanted)
    assert "\n" not in str(caught.value)
    assert "mmproj" not in str(caught.value)
