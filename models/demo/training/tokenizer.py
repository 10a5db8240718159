"""Train the byte-level BPE tokenizer on the corpus, and render conversations with the chat template.

The splitting pattern and the order of the special tokens follow Nemotron 3, so that llama.cpp's "pixtral" pre-tokenizer fits.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from nemotron_gguf.models.demo.training.world import Conversation, conversations

SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Merges are learned from smaller pieces, so that a name has the same tokens wherever it stands: Chinese characters one by
# one, capitalised words apart from the space before them, words apart from the punctuation before them.
PIECES = r" ?\p{Ll}+|\p{Lu}+\p{Ll}*|\p{L}|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
NAMED = {0: "<unk>", 1: "<s>", 2: "</s>", 10: "<|im_start|>", 11: "<|im_end|>", 12: "<think>", 13: "</think>",
         14: "<tool_call>", 15: "</tool_call>", 16: "<tool_response>", 17: "</tool_response>"}  # fmt: skip
SPECIAL = tuple(NAMED.get(i, f"<SPECIAL_{i}>") for i in range(32))
PLAIN = frozenset(SPECIAL[12:18])  # markers that stay visible when special tokens are skipped
VOCAB_SIZE = 2304


class Renderer:
    """Renders conversations with a chat template, the way transformers does."""

    def __init__(self, template: Path) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        environment.globals["raise_exception"] = _raise
        self._template = environment.from_string(template.read_text(encoding="utf-8"))

    def __call__(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], **options: bool
    ) -> str:
        """The text that the model reads."""
        return self._template.render(messages=messages, tools=tools or None, **options)


def _raise(message: str) -> None:
    raise ValueError(message)


def rendered(render: Renderer, seed: int, count: int) -> Iterator[str]:
    """The texts of `count` conversations."""
    for talk in conversations(seed, count):
        yield text_of(render, talk)


def text_of(render: Renderer, talk: Conversation) -> str:
    """The whole text of a conversation, answers included."""
    return render(talk.messages, talk.tools, enable_thinking=talk.thinking, add_generation_prompt=False)


def splitter(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Splits a text by the pattern, then into bytes."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(texts: Iterator[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of exactly VOCAB_SIZE tokens."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = splitter(PIECES)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(token, special=token not in PLAIN, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    marker = re.compile("|".join(map(re.escape, SPECIAL)))
    tokenizer.train_from_iterator((piece for text in texts for piece in marker.split(text)), trainer)
    tokenizer.pre_tokenizer = splitter(SPLIT)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the corpus gives {tokenizer.get_vocab_size()} tokens, {VOCAB_SIZE} were expected")
    return tokenizer


def tokenizer_config() -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    added = {
        str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                 "special": token not in PLAIN}
        for i, token in enumerate(SPECIAL)
    }  # fmt: skip
    return {
        "add_bos_token": False, "add_eos_token": False, "added_tokens_decoder": added, "bos_token": "<s>",
        "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 4096, "pad_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",
    }  # fmt: skip


def main() -> None:
    """Write tokenizer.json and tokenizer_config.json into a folder that holds chat_template.jinja."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the checkpoint folder")
    parser.add_argument("--conversations", type=int, default=20_000, help="how many conversations to train on")
    args = parser.parse_args()
    tokenizer = train(rendered(Renderer(args.folder / "chat_template.jinja"), 1, args.conversations))
    tokenizer.save(str(args.folder / "tokenizer.json"), pretty=False)
    text = json.dumps(tokenizer_config(), indent=2, ensure_ascii=False)
    (args.folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
