"""The `general.*` keys: what a model card shows, and how its makers would sample from it.

The card's heuristics (names, versions and sizes read from a repository's name) are those of the gguf package, so that a
file is described as llama.cpp's converter describes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from math import inf, prod
from pathlib import Path

import gguf
from gguf import Keys

from nemotron_gguf.convert.errors import ConvertError
from nemotron_gguf.convert.plan import TensorPlan
from nemotron_gguf.convert.source.checkpoint import Checkpoint
from nemotron_gguf.convert.source.json_files import Object, read_object, read_text
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_values import Value, ValueType, array, f32, string, u32

MAX_CARD = 1 << 20  # bytes of README.md

# The format has no key for it; its makers ask for keys of one's own under a name of one's own.
SOURCE_PRECISION = "nemotron_gguf.source_precision"

# Options of single tensors, by llama.cpp's src/llama-arch.cpp (`general.tensor_extra`); the gguf package lacks them.
EXTRA_NAMES, EXTRA_FOUR_BIT_INPUTS = "general.tensor_extra.name", "general.tensor_extra.prec_a4"

_TEXTS = {
    "name": Keys.General.NAME, "author": Keys.General.AUTHOR, "version": Keys.General.VERSION,
    "organization": Keys.General.ORGANIZATION, "finetune": Keys.General.FINETUNE, "basename": Keys.General.BASENAME,
    "description": Keys.General.DESCRIPTION, "size_label": Keys.General.SIZE_LABEL, "license": Keys.General.LICENSE,
    "license_name": Keys.General.LICENSE_NAME, "license_link": Keys.General.LICENSE_LINK,
    "source_url": Keys.General.SOURCE_URL, "source_doi": Keys.General.SOURCE_DOI,
    "source_uuid": Keys.General.SOURCE_UUID, "source_repo_url": Keys.General.SOURCE_REPO_URL,
}  # fmt: skip

# generation_config.json's names, in the order of preference, for each key of the format.
_SAMPLING = {
    Keys.General.SAMPLING_TOP_K: (("top_k",), ValueType.INT32),
    Keys.General.SAMPLING_TOP_P: (("top_p",), ValueType.FLOAT32),
    Keys.General.SAMPLING_MIN_P: (("min_p",), ValueType.FLOAT32),
    Keys.General.SAMPLING_TEMP: (("temperature",), ValueType.FLOAT32),
    Keys.General.SAMPLING_PENALTY_REPEAT: (("penalty_repeat", "repetition_penalty"), ValueType.FLOAT32),
}

_RELATED = ("name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url")


def describe(checkpoint: Checkpoint, tensors: Sequence[TensorPlan]) -> dict[str, Value]:
    """The model's own `general.*` keys (the file's type and version are added by the plan)."""
    return _sampling(checkpoint) | dict(_card_keys(_metadata(checkpoint, tensors)))


def source_precision(
    checkpoint: Checkpoint, target: GGMLType, tensors: Sequence[TensorPlan]
) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Keys and notes that tell of weights in 8 and 4 bits: a file in more bits is no better than they were."""
    scaled = [tensor for tensor in checkpoint.tensors.values() if tensor.scale is not None]
    packed = sum(tensor.packed is not None for tensor in checkpoint.tensors.values())
    if checkpoint.scheme is None or not (scaled or packed):
        return {}, ()
    dtypes = sorted({tensor.entry.dtype for tensor in scaled})
    maker, total, notes = checkpoint.scheme.maker, len(checkpoint.tensors), []
    if packed:
        kept = sum(len(tensor.sources) for tensor in tensors if tensor.type is GGMLType.NVFP4)
        others = f", {packed - kept} are multiplied out to {target.name}" if kept < packed else ""
        notes.append(f"the source is NVFP4 ({maker}): {kept} of its {total} tensors keep their 4-bit blocks{others}")
    if scaled:
        notes.append(
            f"the source is FP8 ({maker}): {len(scaled)} of its {total} tensors are {' and '.join(dtypes)},"
            f" multiplied by their scales to {target.name}"
        )
    return {SOURCE_PRECISION: string(",".join([*dtypes, *(["NVFP4"] if packed else [])]))}, tuple(notes)


def activations(wide: Sequence[str]) -> dict[str, Value]:
    """The keys that forbid 4-bit activations for the tensors named, as llama.cpp's converter writes them."""
    if not wide:
        return {}
    names = sorted(wide)
    return {
        EXTRA_NAMES: array(ValueType.STRING, names),
        EXTRA_FOUR_BIT_INPUTS: array(ValueType.BOOL, [False] * len(names)),
    }


def _sampling(checkpoint: Checkpoint) -> dict[str, Value]:
    path = checkpoint.file("generation_config.json")
    config: Object = read_object(path) if path.is_file() else {}
    keys: dict[str, Value] = {}
    for key, (names, kind) in _SAMPLING.items():
        number = next((config[name] for name in names if config.get(name) is not None), None)
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not -inf < number < inf:
            raise ConvertError(
                f"generation_config.json has {' or '.join(names)} = {str(number)[:40]}, expected a number"
            )
        if abs(number) >= 1 << 31:
            raise ConvertError(f"generation_config.json has {names[0]} = {str(number)[:40]}, expected a 32-bit number")
        keys[key] = Value(kind, int(number) if kind is ValueType.INT32 else float(number))
    if config.get("do_sample") is False:  # the likeliest token always, whatever temperature stands beside it
        keys[Keys.General.SAMPLING_TEMP] = f32(0.0)
    return keys


def _metadata(checkpoint: Checkpoint, tensors: Sequence[TensorPlan]) -> Mapping[str, object]:
    shared = sum(prod(t.shape) for t in tensors if "_exps." not in t.name)
    stacks = [t for t in tensors if "_exps." in t.name]
    expert = sum(prod(t.shape[1:]) for t in stacks)
    count = stacks[0].shape[0] if stacks else 0
    total = shared + expert * count
    # The heuristics speak to the log of what they do not understand, which is not for whoever converts
    logging.getLogger("metadata").setLevel(logging.CRITICAL)
    named = Path(checkpoint.name)
    found: gguf.Metadata = gguf.Metadata.apply_metadata_heuristic(
        gguf.Metadata(), _card(checkpoint), _names(checkpoint.config), named, total
    )
    if found.organization is None and checkpoint.repo_id:
        found.organization = gguf.Metadata.id_to_title(checkpoint.repo_id.partition("/")[0])
    found.name = found.name or checkpoint.name
    found.size_label = found.size_label or gguf.size_label(total, shared, expert, count)
    fields: dict[str, object] = vars(found)
    return fields


def _names(config: Object) -> Object:
    """The part of config.json that the heuristics read."""
    name = config.get("_name_or_path")
    return {"_name_or_path": name} if isinstance(name, str) and name else {}


def _card(checkpoint: Checkpoint) -> Object:
    """The front matter of README.md; nothing where there is none or it is no YAML, as a card is decoration."""
    import yaml

    path = checkpoint.file("README.md")
    if not path.is_file() or path.stat().st_size > MAX_CARD:
        return {}
    try:
        lines = read_text(path, MAX_CARD).splitlines()
        if lines[:1] != ["---"] or "---" not in lines[1:]:
            return {}
        text = "\n".join(lines[1 : lines.index("---", 1)]) + "\n"
        # Norwegian is a language and no denial, and tabs are no YAML
        card = yaml.safe_load(text.replace("- no\n", '- "no"\n').replace("\t", "  "))
    except (ConvertError, yaml.YAMLError, ValueError, RecursionError):
        return {}
    return _plain(card) if isinstance(card, dict) else {}


def _plain(card: Mapping[object, object]) -> Object:
    """Only what the heuristics can take: texts, numbers as texts, lists of texts, lists of objects of texts."""
    plain: Object = {}
    for key, value in card.items():
        if isinstance(value, list):
            plain[str(key)] = [item if isinstance(item, dict) else str(item) for item in value if _simple(item)]
        elif _simple(value) and not isinstance(value, dict):
            plain[str(key)] = str(value)
    return plain


def _simple(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(item, str) and _simple(item) for item in [*value.keys(), *value.values()])
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, int | float)


def _card_keys(found: Mapping[str, object]) -> Iterator[tuple[str, Value]]:
    for name, key in _TEXTS.items():
        value = found.get(name)
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if value is not None:
            yield key, string(str(value))
    for name, key in (("tags", Keys.General.TAGS), ("languages", Keys.General.LANGUAGES)):
        items = found.get(name)
        if isinstance(items, list) and items:
            yield key, array(ValueType.STRING, [str(item) for item in items])
    yield from _related(found.get("base_models"), Keys.General.BASE_MODEL_COUNT, "base_model")
    yield from _related(found.get("datasets"), Keys.General.DATASET_COUNT, "dataset")


def _related(entries: object, count: str, kind: str) -> Iterator[tuple[str, Value]]:
    """Models or data that this one was made from, numbered."""
    if not isinstance(entries, list):
        return
    yield count, u32(len(entries))
    for index, entry in enumerate(entries):
        for field in _RELATED:
            if isinstance(entry, dict) and field in entry:
                yield f"general.{kind}.{index}.{field}", string(str(entry[field]))
