"""`tokenizer.ggml.pre`: llama.cpp's name for how text is split before byte-pair encoding.

Recognised by the tokenizer's own regular expression, never guessed: a wrong name changes the tokens of numbers and
contractions and nothing says so.
"""

from __future__ import annotations

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.json_files import Object

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"

# Expression → name, from the cases of llama.cpp's llm_tokenizer_bpe (src/llama-vocab.cpp). The first is what the
# Nemotron 3 and Nano v2 tokenizers have; llama.cpp's converter calls it pixtral after the first model that paired it
# with this vocabulary of 131072, and treats the name exactly as llama-bpe.
_NAMES = {
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_PUNCTUATION}|{_SPACES}": "pixtral",
    rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}": (
        "tekken"
    ),
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_PUNCTUATION}|{_SPACES}": "qwen2",
}
_BYTE_LEVEL = "gpt-2"  # the expression that is built into a ByteLevel step of its own

# Names under which llama.cpp takes a piece of text that is a token as that token, without trying the merges.
IGNORES_MERGES = frozenset({"pixtral", "tekken"})


def pretokenizer_name(pre_tokenizer: object) -> str:
    """The name for tokenizer.json's `pre_tokenizer`. Raises ConvertError, with the expression, for an unknown one."""
    steps = _steps(pre_tokenizer)
    splits = [step for step in steps if step.get("type") == "Split"]
    byte_level = [step for step in steps if step.get("type") == "ByteLevel"]
    if len(byte_level) != 1 or byte_level[0] is not steps[-1] or len(splits) + 1 != len(steps):
        kinds = ", ".join(str(step.get("type"))[:40] for step in steps) or "nothing"
        raise ConvertError(f"tokenizer.json's pre_tokenizer is made of {kinds}, expected Split and then ByteLevel")
    if byte_level[0].get("add_prefix_space") is True:
        raise ConvertError("tokenizer.json's pre_tokenizer adds a space before the text, which llama.cpp does not")
    built_in = byte_level[0].get("use_regex", True) is True
    if built_in and not splits:
        return _BYTE_LEVEL
    expressions = [_expression(step) for step in splits]
    if built_in or len(expressions) != 1 or expressions[0] not in _NAMES:
        shown = " and ".join(expressions)
        raise ConvertError(
            f"tokenizer.json splits text by an expression that llama.cpp's names do not cover here: {shown[:1000]!r}"
        )
    return _NAMES[expressions[0]]


def _steps(pre_tokenizer: object) -> list[Object]:
    if not isinstance(pre_tokenizer, dict):
        return []
    steps = pre_tokenizer.get("pretokenizers") if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ConvertError("tokenizer.json's pre_tokenizer is a sequence of no steps, expected a list of objects")
    return steps


def _expression(step: Object) -> str:
    pattern = step.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if not isinstance(expression, str) or step.get("behavior") != "Isolated" or step.get("invert") is True:
        raise ConvertError(
            f"tokenizer.json splits text by {str(pattern)[:200]!r}, {step.get('behavior')!r},"
            " expected a Regex whose matches are Isolated"
        )
    return expression
