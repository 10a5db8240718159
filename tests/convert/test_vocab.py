from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.pretokenizer import pretokenizer_name
from nemotron_gguf.convert.source.checkpoint import Checkpoint
from nemotron_gguf.convert.vocab import vocab_keys

if TYPE_CHECKING:
    from nemotron_gguf.models.gguf_values import Value

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def added(index: int, content: str, **flags: bool) -> dict[str, Any]:
    return {"id": index, "content": content, "special": False, "normalized": False} | flags


def tokenizer(**changes: Any) -> dict[str, Any]:
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "post_processor": None,
        "added_tokens": [added(0, "<s>", special=True)],
        "model": {"type": "BPE", "vocab": {"a": 1, "b": 2, "ab": 3}, "merges": ["a b"]},
    } | changes


def keys(folder: Path, value: dict[str, Any], n_vocab: int = 8, **settings: Any) -> dict[str, Value]:
    folder.joinpath("tokenizer.json").write_text(json.dumps(value), encoding="utf-8")
    if settings:
        folder.joinpath("tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return vocab_keys(Checkpoint(folder, "x", None, {}, {}), n_vocab)[0]


def plain(value: Value) -> object:
    return value.plain()


def test_tokens_types_and_holes(tmp_path: Path) -> None:
    extra = [added(0, "<s>", special=True), added(4, "<tool>"), added(6, "<|looks|>")]
    found = keys(tmp_path, tokenizer(added_tokens=extra))
    assert plain(found["tokenizer.ggml.tokens"]) == ["<s>", "a", "b", "ab", "<tool>", "[PAD5]", "<|looks|>", "[PAD7]"]
    assert plain(found["tokenizer.ggml.token_type"]) == [3, 1, 1, 1, 4, 5, 3, 5]


def test_added_tokens_are_written_as_they_decode(tmp_path: Path) -> None:
    extra = [added(4, "xĠy"), added(5, "x y"), added(6, "xĠy2", normalized=True), added(7, "▁▁")]
    found = plain(keys(tmp_path, tokenizer(added_tokens=extra))["tokenizer.ggml.tokens"])
    assert isinstance(found, list)
    assert found[4:] == ["x y", "x y", "xĠy2", "  "]


def test_both_forms_of_merges(tmp_path: Path) -> None:
    pairs = tokenizer(model={"type": "BPE", "vocab": {"a": 1}, "merges": [["a", "b"], ["a c", "d"]]})
    assert plain(keys(tmp_path, pairs)["tokenizer.ggml.merges"]) == ["a b", "aĠc d"]
    lines = tokenizer(model={"type": "BPE", "vocab": {"a": 1}, "merges": ["a b"]})
    assert plain(keys(tmp_path, lines)["tokenizer.ggml.merges"]) == ["a b"]


def test_special_ids_and_what_is_added(tmp_path: Path) -> None:
    found = keys(tmp_path, tokenizer(), bos_token="<s>", eos_token={"content": "<s>"}, add_bos_token=True)
    assert plain(found["tokenizer.ggml.bos_token_id"]) == 0
    assert plain(found["tokenizer.ggml.eos_token_id"]) == 0
    assert plain(found["tokenizer.ggml.add_bos_token"]) is True
    assert "tokenizer.ggml.add_eos_token" not in found


def test_the_post_processor_decides_what_is_added(tmp_path: Path) -> None:
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single}
    assert plain(keys(tmp_path, tokenizer(post_processor=template), bos_token="<s>")["tokenizer.ggml.add_bos_token"])
    byte_level = tokenizer(post_processor={"type": "ByteLevel"})
    assert not plain(keys(tmp_path, byte_level, add_bos_token=True)["tokenizer.ggml.add_bos_token"])


def test_templates(tmp_path: Path) -> None:
    assert "tokenizer.chat_template" not in keys(tmp_path, tokenizer())
    tmp_path.joinpath("chat_template.jinja").write_text("from the file", encoding="utf-8")
    assert plain(keys(tmp_path, tokenizer())["tokenizer.chat_template"]) == "from the file"
    assert plain(keys(tmp_path, tokenizer(), chat_template="own")["tokenizer.chat_template"]) == "own"
    named = [{"name": "default", "template": "d"}, {"name": "tool use", "template": "t"}]
    found = keys(tmp_path, tokenizer(), chat_template=named)
    assert plain(found["tokenizer.chat_template"]) == "d"
    assert plain(found["tokenizer.chat_template.tool_use"]) == "t"
    assert plain(found["tokenizer.chat_templates"]) == ["tool_use"]


def test_a_difference_in_merging_is_told(tmp_path: Path) -> None:
    model = tokenizer()["model"] | {"ignore_merges": True}
    tmp_path.joinpath("tokenizer.json").write_text(json.dumps(tokenizer(model=model)), encoding="utf-8")
    notes = vocab_keys(Checkpoint(tmp_path, "x", None, {}, {}), 8)[1]
    assert "ignore_merges = True" in notes[0]


def split(expression: str) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, BYTE_LEVEL]}


def test_a_step_too_many_is_refused() -> None:
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
    with pytest.raises(ConvertError, match="made of Digits, ByteLevel"):
        pretokenizer_name(digits)


def test_an_unknown_expression_is_printed() -> None:
    with pytest.raises(ConvertError, match="new-expression"):
        pretokenizer_name(split("new-expression"))


def test_another_behaviour_is_no_match() -> None:
    pattern = split("x")
    pattern["pretokenizers"][0]["behavior"] = "Removed"
    with pytest.raises(ConvertError, match="Removed"):
        pretokenizer_name(pattern)
