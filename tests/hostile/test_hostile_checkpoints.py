"""Checkpoints made to mislead or damaged: each ends in one ConvertError of one line, and no file appears."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemotron_gguf.convert import ConvertError, Output, open_checkpoint, plan_conversion, write_files

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

Attack = Callable[[Path], object]


def edited(file: str, **changes: Any) -> Attack:
    """A JSON file with keys changed; `...` removes one."""

    def attack(folder: Path) -> None:
        value = json.loads(folder.joinpath(file).read_text(encoding="utf-8"))
        value = {key: item for key, item in (value | changes).items() if item is not ...}
        folder.joinpath(file).write_text(json.dumps(value), encoding="utf-8")

    return attack


def config(**changes: Any) -> Attack:
    return edited("config.json", **changes)


def tokenizer(change: Callable[[Any], object]) -> Attack:
    def attack(folder: Path) -> None:
        path = folder / "tokenizer.json"
        value = json.loads(path.read_text(encoding="utf-8"))
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    return attack


def written(file: str, data: bytes) -> Attack:
    return lambda folder: folder.joinpath(file).write_bytes(data)


def header(change: Callable[[dict[str, Any]], object]) -> Attack:
    """The weights' header changed, the data left as it is."""

    def attack(folder: Path) -> None:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        size: int = struct.unpack("<Q", raw[:8])[0]
        value = json.loads(raw[8 : 8 + size])
        change(value)
        text = json.dumps(value).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])

    return attack


def cut(size: int) -> Attack:
    def attack(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return attack


def index(change: Callable[[dict[str, str]], object]) -> Attack:
    """The one file turned into a shard with an index, which is then changed."""

    def attack(folder: Path) -> None:
        raw = folder.joinpath("model.safetensors").read_bytes()
        size: int = struct.unpack("<Q", raw[:8])[0]
        names = [name for name in json.loads(raw[8 : 8 + size]) if name != "__metadata__"]
        folder.joinpath("model.safetensors").rename(folder / "model-1.safetensors")
        weight_map = dict.fromkeys(names, "model-1.safetensors")
        change(weight_map)
        text = json.dumps({"weight_map": weight_map})
        folder.joinpath("model.safetensors.index.json").write_text(text, encoding="utf-8")

    return attack


def only_pickled(folder: Path) -> None:
    folder.joinpath("model.safetensors").rename(folder / "pytorch_model.bin")


def weights_a_folder(folder: Path) -> None:
    folder.joinpath("model.safetensors").unlink()
    folder.joinpath("model.safetensors").mkdir()


def bare(data: bytes) -> Attack:
    return written("model.safetensors", data)


def raw_header(text: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text


NORM = "backbone.norm_f.weight"
MILLION = {f"t{n}": n for n in range(600, 1600)}

CASES: dict[str, tuple[Attack, str]] = {
    # the folder
    "no config": (lambda folder: folder.joinpath("config.json").unlink(), "has no config.json"),
    "no weights": (lambda folder: folder.joinpath("model.safetensors").unlink(), "has no weights"),
    "pickled weights": (only_pickled, "could run code"),
    "a shard without index": (
        lambda folder: folder.joinpath("model.safetensors").rename(folder / "model-00001-of-00002.safetensors"),
        "download is incomplete",
    ),
    "no tokenizer": (lambda folder: folder.joinpath("tokenizer.json").unlink(), "has no tokenizer.json"),
    "a folder for weights": (weights_a_folder, "has no weights"),
    # config.json as a file
    "config no JSON": (written("config.json", b"{oops"), "no valid JSON"),
    "config a list": (written("config.json", b"[]"), "expected a JSON object"),
    "config empty": (written("config.json", b""), "no valid JSON"),
    "config no UTF-8": (written("config.json", b'{"a": "\xff"}'), "no UTF-8"),
    "config nested": (written("config.json", b'{"a":' * 100_000), "nested too deeply"),
    "config with a key twice": (written("config.json", b'{"a": 1, "a": 2}'), "twice"),
    "config with a number of 10000 digits": (written("config.json", b'{"a": ' + b"9" * 10_000 + b"}"), "no valid JSON"),
    "config of 65 MiB": (written("config.json", b" " * (65 << 20)), "bytes, at most"),
    # what config.json says
    "another architecture": (config(architectures=["LlamaForCausalLM"]), "expected NemotronHForCausalLM"),
    "architectures a number": (config(architectures=7, model_type=None), "expected NemotronHForCausalLM"),
    "remote code only": (config(architectures=["Evil"], auto_map={"AutoConfig": "evil.Evil"}), "'Evil'"),
    "quantized": (config(quantization_config={"quant_algo": "W4A8_AWQ"}), "quantized checkpoint (W4A8_AWQ)"),
    "no layer pattern": (config(hybrid_override_pattern=...), "lacks hybrid_override_pattern"),
    "unknown layer letter": (config(hybrid_override_pattern="MEXEM*ME"), "'X' at layer 2"),
    "unknown layer word": (config(layers_block_type=["rnn"] * 8), "'rnn' at layer 0"),
    "pattern too short": (config(hybrid_override_pattern="ME*"), "num_hidden_layers is 8"),
    "two patterns": (config(layers_block_type=["mamba"] * 8), "contradicts itself"),
    "pattern a number": (config(hybrid_override_pattern=8), "expected a string of letters"),
    "a million layers": (config(hybrid_override_pattern="M" * 10**6, num_hidden_layers=10**6), "runs up to 512"),
    "experts and dense layers": (config(hybrid_override_pattern="ME*EM*M-"), "both experts (E) and dense"),
    "no Mamba layer": (config(hybrid_override_pattern="*E" * 4), "no Mamba layer"),
    "hidden size of 2^62": (config(hidden_size=1 << 62), "hidden_size"),
    "hidden size negative": (config(hidden_size=-96), "hidden_size"),
    "hidden size a text": (config(hidden_size="96"), "hidden_size"),
    "hidden size true": (config(hidden_size=True), "hidden_size"),
    "hidden size missing": (config(hidden_size=...), "lacks hidden_size"),
    "hidden size other than the weights'": (config(hidden_size=64), "expected [512, 64]"),
    "no heads": (config(num_attention_heads=0), "num_attention_heads"),
    "heads that do not share out": (config(num_attention_heads=5), "multiple of num_key_value_heads"),
    "groups that do not share out": (config(n_groups=3), "multiple of n_groups"),
    "more experts used than there are": (config(num_experts_per_tok=9), "at most n_routed_experts"),
    "a billion experts": (config(n_routed_experts=10**9), "n_routed_experts"),
    "other activation": (config(mlp_hidden_act="silu"), "expected 'relu2'"),
    "two epsilons": (config(norm_eps=1e-6), "contradicts itself"),
    "epsilon zero": (config(norm_eps=0, layer_norm_epsilon=0), "positive number"),
    "scale infinite": (config(routed_scaling_factor=float("inf")), "positive number"),
    "clamped time steps": (config(time_step_limit=[0.0, 1.0]), "time_step_limit"),
    "sliding window": (config(sliding_window=128), "sliding_window"),
    # the safetensors file
    "weights empty": (bare(b""), "at least 8"),
    "header of 2^63 bytes": (bare(raw_header(b"{}", 2**63)), "at most 100000000"),
    "header longer than the file": (bare(raw_header(b"{}", 4096)), "the file has 2 left"),
    "header no object": (bare(raw_header(b"[]      ")), "begins with"),
    "header no JSON": (bare(raw_header(b"{a      ")), "no valid JSON"),
    "header with a name twice": (
        bare(raw_header(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}')),
        "twice",
    ),
    "header nested": (bare(raw_header(b'{"a":' * 50_000)), "nested too deeply"),
    "truncated weights": (cut(100_000), "truncated"),
    "one byte short": (cut(-1), "truncated"),
    "one byte more": (
        lambda folder: folder.joinpath("model.safetensors").open("ab").write(b"\0"),
        "belong to no tensor",
    ),
    "metadata of numbers": (header(lambda h: h["__metadata__"].update(n=1)), "no object of strings"),
    "unknown dtype": (header(lambda h: h[NORM].update(dtype="F128")), "expected one of"),
    "integer weights": (header(lambda h: h[NORM].update(dtype="I32")), "expected BF16, F16 or F32"),
    "shape negative": (header(lambda h: h[NORM].update(shape=[-96])), "the shape of"),
    "shape of 2^40 x 2^40": (header(lambda h: h[NORM].update(shape=[2**40, 2**40])), "its data_offsets hold 384"),
    "shape that wraps to the size": (header(lambda h: h[NORM].update(shape=[2**62 + 96, 4])), "its data_offsets hold"),
    "shape of 1000 dimensions": (header(lambda h: h[NORM].update(shape=[1] * 1000)), "the shape of"),
    "offsets backwards": (header(lambda h: h[NORM].update(data_offsets=[384, 0])), "data_offsets"),
    "offsets that overlap": (
        header(lambda h: h[NORM].update(data_offsets=[n - 4 for n in h[NORM]["data_offsets"]])),
        "an overlap at",
    ),
    "a hole": (header(lambda h: h.pop(NORM)), "a hole before"),
    "an entry with more": (header(lambda h: h[NORM].update(strides=[1])), "has not exactly"),
    # tensors against the config
    "a tensor renamed": (header(lambda h: h.update({"backbone.norm.weight": h.pop(NORM)})), "lacks 1 tensors"),
    "a tensor under both prefixes": (
        header(lambda h: h.update({"model.norm_f.weight": h.pop("backbone.layers.0.norm.weight")})),
        "the same weight",
    ),
    "tensors left over": (config(hybrid_override_pattern="ME*EM*M", num_hidden_layers=7), "does not account for"),
    "draft head missing from the config": (
        header(lambda h: h.update({"mtp.layers.0.enorm.weight": h.pop(NORM)})),
        "lacks 1 tensors",
    ),
    # the index
    "index out of the folder": (index(lambda m: m.update({NORM: "../../etc/passwd.safetensors"})), "beside it"),
    "index with an absolute path": (index(lambda m: m.update({NORM: "/etc/x.safetensors"})), "beside it"),
    "index with a drive": (index(lambda m: m.update({NORM: "C:x.safetensors"})), "beside it"),
    "index to another kind of file": (index(lambda m: m.update({NORM: "evil.bin"})), "beside it"),
    "index to a missing shard": (index(lambda m: m.update({NORM: "model-2.safetensors"})), "lacks the shard"),
    "index to a tensor that is nowhere": (index(lambda m: m.update(ghost="model-1.safetensors")), "in no shard"),
    "index without a tensor": (index(lambda m: m.pop(NORM)), "does not list it"),
    "index empty": (index(lambda m: m.clear()), "no weight_map"),
    # the tokenizer
    "half a letter": (written("tokenizer_config.json", b'{"chat_template": "\\ud800"}'), "no Unicode"),
    "half a letter in a token": (tokenizer(lambda t: t["model"]["vocab"].update({"\ud83d": 480})), "no Unicode"),
    "a huge id": (tokenizer(lambda t: t["model"]["vocab"].update(x=10**12)), "the id 1000000000000"),
    "a negative id": (tokenizer(lambda t: t["model"]["vocab"].update(x=-1)), "expected 0 or more"),
    "an id that is a text": (tokenizer(lambda t: t["model"]["vocab"].update(x="5")), "expected 0 or more"),
    "an id twice": (tokenizer(lambda t: t["model"]["vocab"].update(xyzzy=300)), "the id 300 to"),
    "more tokens than embeddings": (tokenizer(lambda t: t["model"]["vocab"].update(MILLION)), "allows up to 511"),
    "vocabulary a list": (tokenizer(lambda t: t["model"].update(vocab=["a", "b"])), "no vocab"),
    "an added token of another text": (tokenizer(lambda t: t["added_tokens"][0].update(content="x")), "the id 0 to"),
    "an added token without text": (tokenizer(lambda t: t["added_tokens"][0].update(content=7)), "expected content"),
    "a token of a megabyte": (tokenizer(lambda t: t["model"]["vocab"].update({"x" * 10**6: 480})), "characters"),
    "an added token of another text elsewhere": (
        edited("tokenizer_config.json", added_tokens_decoder={"1": {"content": "x"}}),
        "the id 1 to",
    ),
    "an added token at no number": (
        edited("tokenizer_config.json", added_tokens_decoder={"one": {"content": "<s>"}}),
        "the id one",
    ),
    "merges of three": (tokenizer(lambda t: t["model"].update(merges=[["a", "b", "c"]])), "expected two tokens"),
    "merges of numbers": (tokenizer(lambda t: t["model"].update(merges=[1, 2])), "expected two tokens"),
    "a unigram tokenizer": (tokenizer(lambda t: t["model"].update(type="Unigram")), "expected BPE"),
    "byte fallback": (tokenizer(lambda t: t["model"].update(byte_fallback=True)), "byte_fallback"),
    "an unknown expression": (
        tokenizer(lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"\w+"})),
        r"\\w+",
    ),
    "no pre-tokenizer": (tokenizer(lambda t: t.update(pre_tokenizer=None)), "expected Split and then ByteLevel"),
    "a normalizer": (tokenizer(lambda t: t.update(normalizer={"type": "Lowercase"})), "Lowercase"),
    "a special id beyond the vocabulary": (config(pad_token_id=512), "the pad token has the id 512"),
    "a template that is a number": (edited("tokenizer_config.json", chat_template=7), "chat template"),
    "a temperature that is a text": (edited("generation_config.json", temperature="hot"), "temperature"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    attack, expected = CASES[case]
    folder, target = tmp_path / "checkpoint", tmp_path / "out.gguf"
    shutil.copytree(checkpoints.get("moe"), folder)
    attack(folder)
    started = time.monotonic()
    with pytest.raises(ConvertError) as caught:
        write_files([Output(plan_conversion(open_checkpoint(folder)), target)])
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 1500
    assert time.monotonic() - started < 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_an_unharmed_copy_is_converted(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder, target = tmp_path / "checkpoint", tmp_path / "out.gguf"
    shutil.copytree(checkpoints.get("moe"), folder)
    index(lambda _: None)(folder)
    header_only = open_checkpoint(folder)
    write_files([Output(plan_conversion(header_only), target)])
    assert target.stat().st_size == plan_conversion(header_only).header.file_size


def test_weights_that_shrink_while_they_are_read(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder, target = tmp_path / "checkpoint", tmp_path / "out.gguf"
    shutil.copytree(checkpoints.get("moe"), folder)
    plan = plan_conversion(open_checkpoint(folder))
    cut_in_place = folder.joinpath("model.safetensors").open("r+b")
    with cut_in_place:
        cut_in_place.truncate(200_000)
    with pytest.raises(ConvertError, match="truncated or changed"):
        write_files([Output(plan, target)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("no/such/folder", "neither a folder here nor a Hub repository"),
        ("nothing", "neither a folder"),
        ("", "neither a folder"),
        ("org/name@", "neither a folder"),
        ("../escape", "neither a folder"),
        ("org/na..me", "neither a folder"),
        ("https://example.com/model", "neither a folder"),
        ("a\0b", "neither a folder|no usable path"),
        ("x" * 5000, "no usable path"),
    ],
)
def test_sources_that_are_nothing(source: str, expected: str) -> None:
    with pytest.raises(ConvertError, match=expected) as caught:
        open_checkpoint(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(ConvertError, match="expected the checkpoint's folder"):
        open_checkpoint(path)
