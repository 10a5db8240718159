"""Special token ids, whether BOS and EOS are added, and the chat template: the tokenizer's smaller keys.

The rules are those of llama.cpp's converter (gguf's SpecialVocab): ids from tokenizer_config.json by the added token's
text, else from config.json; what is added from tokenizer.json's post-processor, else from tokenizer_config.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gguf import Keys

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.source.checkpoint import Checkpoint
from nemotron_gguf.convert.source.json_files import Object, read_optional, read_text
from nemotron_gguf.models.gguf_values import Value, ValueType, array, boolean, string, u32

MAX_TEMPLATE = 4 << 20  # bytes; the family's templates have about 10 kB

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_ID_KEYS = {
    "bos": Keys.Tokenizer.BOS_ID,
    "eos": Keys.Tokenizer.EOS_ID,
    "unk": Keys.Tokenizer.UNK_ID,
    "sep": Keys.Tokenizer.SEP_ID,
    "pad": Keys.Tokenizer.PAD_ID,
    "mask": Keys.Tokenizer.MASK_ID,
    "eot": Keys.Tokenizer.EOT_ID,
}
_ADD_KEYS = {"bos": Keys.Tokenizer.ADD_BOS, "eos": Keys.Tokenizer.ADD_EOS, "sep": Keys.Tokenizer.ADD_SEP}


def special_keys(
    checkpoint: Checkpoint, tokenizer: Object, config: Object, ids: Mapping[str, int], n_vocab: int
) -> dict[str, Value]:
    """The keys, from tokenizer.json, tokenizer_config.json (`config`) and the added tokens' `ids`.

    Raises ConvertError for an id beyond `n_vocab` and for a chat template that is no text.
    """
    names = {kind: _token_text(config.get(f"{kind}_token")) for kind in _ROLES}
    names["bos"] = names["bos"] or names["cls"]
    names["eos"] = names["eos"] or names["sep"]
    added = _added_by_processor(tokenizer.get("post_processor"), names)
    keys: dict[str, Value] = {}
    for kind, key in _ID_KEYS.items():
        index = _find_id(kind, ids.get(names.get(kind) or ""), checkpoint.config)
        if index is not None:
            if not 0 <= index < n_vocab:
                raise ConvertError(f"the {kind} token has the id {index}, config.json's vocab_size is {n_vocab}")
            keys[key] = u32(index)
    for kind, key in _ADD_KEYS.items():
        value = added.get(kind, config.get(f"add_{kind}_token"))
        if isinstance(value, bool):
            keys[key] = boolean(value)
    return keys | _template_keys(checkpoint, config)


def named_tokens(config: Object) -> frozenset[str]:
    """The tokens that have a role in tokenizer_config.json."""
    entries = [config.get(f"{kind}_token") for kind in _ROLES]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(key)
        entries += more if isinstance(more, list) else more.values() if isinstance(more, dict) else []
    return frozenset(text for entry in entries if (text := _token_text(entry)))


def _token_text(entry: object) -> str | None:
    """A token of tokenizer_config.json, which is a text or an object with one."""
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) and text else None


def _find_id(kind: str, index: int | None, config: Object) -> int | None:
    if index is None:
        value = config.get(f"{kind}_token_id")
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    return index


def _added_by_processor(processor: object, names: dict[str, str | None]) -> dict[str, bool]:
    """What tokenizer.json's post-processor puts around a text. Changes `names` to its template's."""
    added: dict[str, bool] = {}
    if not isinstance(processor, dict):
        return added
    steps = processor.get("processors", [processor])
    for step in steps if isinstance(steps, list) else []:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            added.setdefault("bos", False)
            added.setdefault("eos", False)
        elif kind == "TemplateProcessing":
            added |= _added_by_template(step.get("single"), names)
        elif kind is not None:
            raise ConvertError(
                f"tokenizer.json has a post_processor {str(kind)[:40]!r}, expected ByteLevel or a template"
            )
    return added


def _added_by_template(single: object, names: dict[str, str | None]) -> dict[str, bool]:
    added: dict[str, bool] = {}
    if not isinstance(single, list) or len(single) < 2:
        return added
    first, last = _special_id(single[0]), _special_id(single[-1])
    if first:
        if first not in (names["bos"], names["cls"]):
            names["bos"] = names["bos"] or first
            names["cls"] = names["cls"] or first
        added["bos"] = first in (names["bos"], names["cls"])
    if last:
        if last != names["eos"]:
            names["eot"], names["eos"] = names["eos"], last
        added["eos"] = True
    return added


def _special_id(piece: object) -> str | None:
    token = piece.get("SpecialToken") if isinstance(piece, dict) else None
    text = token.get("id") if isinstance(token, dict) else None
    return text if isinstance(text, str) else None


def _template_keys(checkpoint: Checkpoint, config: Object) -> dict[str, Value]:
    template = config.get("chat_template")
    if template is None:
        template = _template_file(checkpoint)
    if template is None:
        return {}
    if isinstance(template, str):
        return {Keys.Tokenizer.CHAT_TEMPLATE: string(template)}
    named = _named_templates(template)
    keys: dict[str, Value] = {}
    default = named.pop("default", None)
    if named:
        keys[Keys.Tokenizer.CHAT_TEMPLATES] = array(ValueType.STRING, sorted(named))
        keys |= {Keys.Tokenizer.CHAT_TEMPLATE_N.format(name=name): string(text) for name, text in named.items()}
    if default is not None:
        keys[Keys.Tokenizer.CHAT_TEMPLATE] = string(default)
    return keys


def _template_file(checkpoint: Checkpoint) -> object:
    path = checkpoint.file("chat_template.jinja")
    if not path.is_file():
        return read_optional(checkpoint.file("chat_template.json")).get("chat_template")
    return read_text(path, MAX_TEMPLATE)


def _named_templates(template: object) -> dict[str, str]:
    named: dict[str, str] = {}
    for choice in template if isinstance(template, list) else [template]:
        name = choice.get("name") if isinstance(choice, dict) else None
        text = choice.get("template") if isinstance(choice, dict) else None
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConvertError(f"the chat template is {str(choice)[:60]!r}, expected a text or named texts")
        named[re.sub(r"[^A-Za-z0-9]", "_", name)] = text
    return named
