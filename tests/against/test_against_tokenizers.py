"""llama.cpp's tokens with the keys we write, against those of the tokenizers library with the checkpoint's own file."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.convert import Output, open_checkpoint, plan_conversion, write_files

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "I'm sure you'll say WE'RE done, it's 'fine'",
    "1 12 123 1234 12345 3.14159 -7e10 ½ Ⅻ",
    "\n \n\n \t\tdef f(x):\n    return x + 1   \n\n\n",
    "naïve café, Grüße aus Köln! 你好，世界。 Здравствуй 🚀🚀 \u200d",
    "CamelCase HTTPServer iPhone ÉCOLE eBay",
    "<|im_start|>user\nHello<|im_end|>\n<think>so</think> <tool_call>x",
    "path/to/file.txt///\r\n{}[]()!!!",
    "",
    " ",
)


@pytest.mark.parametrize("kind", ["moe", "moe-bf16"])  # the two expressions of the family
def test_texts_become_the_same_tokens(kind: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    import llama_cpp
    from tokenizers import Tokenizer

    folder, target = checkpoints.get(kind), tmp_path / "model.gguf"
    with open_checkpoint(folder) as checkpoint:
        write_files([Output(plan_conversion(checkpoint), target)])
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(target).encode(), settings)
    assert model
    try:
        vocab = llama_cpp.llama_model_get_vocab(model)
        for text in TEXTS:
            assert tokens(vocab, text) == theirs.encode(text, add_special_tokens=False).ids, text
    finally:
        llama_cpp.llama_model_free(model)


def tokens(vocab: object, text: str) -> list[int]:
    import llama_cpp

    raw = text.encode()
    found = (ctypes.c_int32 * (len(raw) + 8))()
    count = llama_cpp.llama_tokenize(vocab, raw, len(raw), found, len(found), False, True)
    return list(found[:count])
