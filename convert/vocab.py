"""tokenizer.json → the `tokenizer.*` keys: tokens and their types, merges, pre-tokenizer, special ids, chat template.

The file is read as JSON: neither `tokenizers` nor `transformers` runs, and nothing of the checkpoint does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gguf import Keys, TokenType

from nemotron_gguf.convert.chat_template import template_note
from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.pretokenizer import IGNORES_MERGES, pretokenizer_name
from nemotron_gguf.convert.source.checkpoint import Checkpoint
from nemotron_gguf.convert.source.json_files import Object, read_object, read_optional
from nemotron_gguf.convert.special_tokens import named_tokens, special_keys
from nemotron_gguf.models.gguf_values import Value, ValueType, array, string

MAX_TOKEN = 4096  # characters; the longest token of the family has a few hundred
MAX_ADDED = 1_000_000


@dataclass(frozen=True)
class _Added:
    """A token that is matched as it stands before the text is split."""

    id: int
    content: str
    special: bool
    normalized: bool


def vocab_keys(checkpoint: Checkpoint, n_vocab: int) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The `tokenizer.*` keys for a model of `n_vocab` embeddings, and notes for whoever reads along.

    Raises ConvertError for a tokenizer that is missing, malformed, of another kind than byte-level BPE, or larger than
    the model.
    """
    path = checkpoint.file("tokenizer.json")
    if not path.is_file():
        raise ConvertError(f"{checkpoint.folder} has no tokenizer.json, which the conversion reads the vocabulary from")
    tokenizer = read_object(path, limit=256 << 20)
    model = _model(tokenizer)
    config = read_optional(checkpoint.file("tokenizer_config.json"))
    vocab, added = _vocab(model), _added(tokenizer, config)
    # llama.cpp's converter fills the list up to a multiple of 8, which all published models have anyway; where a model
    # has not, only a list as long as the embeddings makes a file that loads
    tokens, types = _tokens(vocab, added, n_vocab)
    merges = _merges(model)
    pre = pretokenizer_name(tokenizer.get("pre_tokenizer"))
    keys = {
        Keys.Tokenizer.MODEL: string("gpt2"),
        Keys.Tokenizer.PRE: string(pre),
        Keys.Tokenizer.LIST: array(ValueType.STRING, tokens),
        Keys.Tokenizer.TOKEN_TYPE: array(ValueType.INT32, types),
        Keys.Tokenizer.MERGES: array(ValueType.STRING, merges),
    }
    if not merges:
        del keys[Keys.Tokenizer.MERGES]
    ids = {token.content: token.id for token in added}
    keys |= special_keys(checkpoint, tokenizer, config, ids, n_vocab)
    template = keys.get(Keys.Tokenizer.CHAT_TEMPLATE)
    return keys, (*_notes(tokenizer, model, pre), *(template_note(str(template.plain())) if template else ()))


def _model(tokenizer: Object) -> Object:
    model = tokenizer.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind not in ("BPE", None):
        raise ConvertError(f"tokenizer.json's model is of type {str(kind)[:40]!r}, expected BPE")
    for key in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ConvertError(f"tokenizer.json's model has {key} = {str(model[key])[:40]!r}, expected byte-level BPE")
    normalizer = tokenizer.get("normalizer")
    steps = normalizer.get("normalizers") if isinstance(normalizer, dict) else None
    kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
    if normalizer is not None and steps != [] and kind != "NFC":
        raise ConvertError(f"tokenizer.json has the normalizer {str(kind)[:40]!r}, which llama.cpp does not apply")
    return model


def _vocab(model: Object) -> dict[int, str]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise ConvertError("tokenizer.json's model has no vocab, expected an object of token to id")
    by_id: dict[int, str] = {}
    for token, value in vocab.items():
        index = _checked_id(token, value)
        if len(token) > MAX_TOKEN:
            raise ConvertError(f"tokenizer.json has a token of {len(token)} characters, at most {MAX_TOKEN} expected")
        if index in by_id:
            raise _twice(index, by_id[index], token)
        by_id[index] = token
    return by_id


def _checked_id(token: str, index: object) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise ConvertError(f"the tokenizer gives {token[:40]!r} the id {str(index)[:40]}, expected 0 or more")
    return index


def _added(tokenizer: Object, config: Object) -> list[_Added]:
    """The added tokens; where tokenizer_config.json lists one too, its flags are the ones that transformers goes by.

    A token that has a role there (BOS and the like) is special whatever the flags say.
    """
    entries = tokenizer.get("added_tokens") or []
    flags = config.get("added_tokens_decoder") or {}
    if not isinstance(entries, list) or not isinstance(flags, dict) or max(len(entries), len(flags)) > MAX_ADDED:
        raise ConvertError("the tokenizer's added tokens are no list of reasonable length")
    added: dict[int, _Added] = {}
    for entry in entries:
        token = _added_token(entry, entry.get("id") if isinstance(entry, dict) else None)
        if token.id in added:
            raise _twice(token.id, added[token.id].content, token.content)
        added[token.id] = token
    for index, entry in flags.items():
        token = _added_token(entry, int(index) if index.isdecimal() and len(index) < 10 else index)
        if token.id in added and added[token.id].content != token.content:
            raise _twice(token.id, added[token.id].content, token.content)
        added[token.id] = token
    named = named_tokens(config)
    return [replace(token, special=token.special or token.content in named) for token in added.values()]


def _added_token(entry: object, index: object) -> _Added:
    content = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(content, str) or not 0 < len(content) <= MAX_TOKEN:
        raise ConvertError(f"the tokenizer has an added token {str(entry)[:60]!r}, expected content and an id")
    special = bool(entry.get("special"))
    return _Added(_checked_id(content, index), content, special, bool(entry.get("normalized", not special)))


def _twice(index: int, one: str, other: str) -> ConvertError:
    return ConvertError(f"the tokenizer gives the id {index} to {one[:40]!r} and to {other[:40]!r}")


def _tokens(vocab: dict[int, str], added: list[_Added], size: int) -> tuple[list[str], list[int]]:
    """The token list, filled up to `size` with unused ones, and each one's type."""
    special = {token.id: token for token in added}
    for token in added:
        if vocab.get(token.id, token.content) != token.content:
            raise _twice(token.id, vocab[token.id], token.content)
    names = vocab | {token.id: token.content for token in added}
    highest = max(names)
    if highest >= size:
        raise ConvertError(
            f"tokenizer.json has the id {highest} ({names[highest]!r}), config.json's vocab_size"
            f" allows up to {size - 1}"
        )
    tokens, types = [f"[PAD{index}]" for index in range(size)], [int(TokenType.UNUSED)] * size
    for index, name in names.items():
        tokens[index], types[index] = _typed(special[index]) if index in special else (name, int(TokenType.NORMAL))
    return tokens, types


def _typed(token: _Added) -> tuple[str, int]:
    """An added token as llama.cpp wants it: text as it decodes, control where it is special or looks so."""
    text = token.content if token.normalized else _decoded(token.content)
    if token.special or _looks_special(text):
        return text, int(TokenType.CONTROL)
    return text.replace("\u2581", " "), int(TokenType.USER_DEFINED)


def _looks_special(text: str) -> bool:
    """llama.cpp's converter takes these for control tokens even where the tokenizer does not say so."""
    pairs = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
    return text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or any(
        text.startswith(start) and text.endswith(end) for start, end in pairs
    )


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's letters: printable Latin-1 stands for itself, the other bytes for letters from 256 upwards."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def _decoded(text: str) -> str:
    """What a ByteLevel decoder makes of a token: its letters as bytes, unless one of them is no such letter."""
    if not all(letter in _BYTES for letter in text):
        return text
    return bytes(_BYTES[letter] for letter in text).decode("utf-8", "replace")


def _merges(model: Object) -> list[str]:
    """The merges as `left right`; spaces inside a part are written as their byte-level letter."""
    merges = model.get("merges") or []
    if not isinstance(merges, list):
        raise ConvertError("tokenizer.json's merges are no list")
    lines: list[str] = []
    for index, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
            raise ConvertError(f"tokenizer.json's merge {index} is {str(merge)[:60]!r}, expected two tokens")
        lines.append(merge if isinstance(merge, str) else " ".join(part.replace(" ", "Ġ") for part in parts))
    return lines


def _notes(tokenizer: Object, model: Object, pre: str) -> tuple[str, ...]:
    notes = []
    if bool(model.get("ignore_merges")) != (pre in IGNORES_MERGES):
        notes.append(
            f"tokenizer.json has ignore_merges = {bool(model.get('ignore_merges'))}, llama.cpp under the name {pre}"
            f" {pre in IGNORES_MERGES}: the same tokens as long as every token can be reached by merges"
        )
    if tokenizer.get("normalizer"):
        notes.append("tokenizer.json normalizes text (NFC), llama.cpp does not: composed text is tokenized the same")
    return tuple(notes)
