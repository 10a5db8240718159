"""Checkpoints in 8-bit floats: our files against llama.cpp's converter's, and against torch's own multiplication.

llama.cpp's converter refuses some of what compressed-tensors and others write (scales a tensor, scales of activations):
there, and everywhere else too, a twin says what is right, a plain checkpoint of `weight.float() * scale.float()`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from nemotron_gguf.convert import FilePlan, Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.gguf_reader import GGUFFile, read_gguf
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_quantization
from nemotron_gguf.quant.source import plan_of_file

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.conftest import Reference
    from nemotron_gguf.tests.conftest import Checkpoints

OUTTYPES = ("f32", "f16", "bf16")
PRECISION = "nemotron_gguf.source_precision"
E4M3 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Style:
    """A way to quantize: what the config says, and what stands beside a weight."""

    kind: str
    config: Mapping[str, Any] | None
    exported: Mapping[str, Any] | None = None  # hf_quant_config.json
    block: tuple[int, int] | None = None  # weights that share a scale; None: the whole matrix
    shape: Callable[[torch.Tensor], torch.Tensor] = lambda scale: scale
    suffix: str = "_scale"
    extras: tuple[str, ...] = ()  # scales of activations, in place of "weight"
    dtype: torch.dtype = E4M3
    scale_dtype: torch.dtype = torch.float32
    everything: bool = False  # router, embeddings and output too
    excluded: tuple[str, ...] = (".layers.0.",)
    reference: bool = True  # llama.cpp's converter reads it

    def takes(self, name: str, weight: torch.Tensor) -> bool:
        outside = not self.everything and (".mixer." not in name or name.endswith("gate.weight"))
        return weight.dim() == 2 and not outside and not any(part in name for part in self.excluded)

    def quantize(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes, scales as they are saved, and what both stand for."""
        high, wide = self.block or weight.shape
        high, wide = high or weight.shape[0], wide or weight.shape[1]
        rows, columns = -(-weight.shape[0] // high), -(-weight.shape[1] // wide)
        padded = torch.zeros(rows * high, columns * wide)
        padded[: weight.shape[0], : weight.shape[1]] = weight.float()
        largest = padded.reshape(rows, high, columns, wide).abs().amax((1, 3))
        scale = (largest / torch.finfo(self.dtype).max).to(self.scale_dtype)
        spread = scale.float().repeat_interleave(high, 0).repeat_interleave(wide, 1)
        spread = spread[: weight.shape[0], : weight.shape[1]]
        codes = (weight.float() / spread).clamp(-448, 448).to(self.dtype)
        return codes, self.shape(scale).contiguous(), codes.float() * spread


def modelopt(algorithm: str = "FP8", **more: Any) -> dict[str, Any]:
    return {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["lm_head"], **more}


def exported(algorithm: str = "FP8", **more: Any) -> dict[str, Any]:
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"], **more}
    return {"producer": {"name": "modelopt", "version": "0.37.0"}, "quantization": quantization}


def compressed(strategy: str, **more: Any) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False, **more}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": {"num_bits": 8, "dynamic": True}}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": group}}


def fine_grained(block: list[int] | None, **more: Any) -> dict[str, Any]:
    return {"quant_method": "fp8", "weight_block_size": block, "activation_scheme": "dynamic", **more}


def scalar(scale: torch.Tensor) -> torch.Tensor:
    return scale.reshape(())


def flat(scale: torch.Tensor) -> torch.Tensor:
    return scale.reshape(-1)


ROWS = (1, 0)
MIXED = {"backbone.layers.1.mixer": {"quant_algo": "FP8"}, "backbone.layers.2.mixer.q_proj": {"quant_algo": "FP8"}}
STYLES: dict[str, Style] = {
    "modelopt": Style("moe-bf16", modelopt(), exported(), shape=scalar, extras=("input_scale",)),
    "modelopt-file-only": Style("moe-bf16", None, exported(), shape=flat, extras=("input_scale", "k_scale", "v_scale")),
    "modelopt-f32": Style("moe", modelopt(), shape=scalar, everything=True, excluded=()),
    "modelopt-f16": Style("moe-f16", modelopt(), shape=scalar, scale_dtype=torch.float16),
    "modelopt-latent": Style("latent", modelopt(), shape=scalar, extras=("input_scale",)),
    "modelopt-mtp": Style("mtp", modelopt(), exported(), shape=scalar, extras=("input_scale",)),
    "modelopt-dense": Style("dense-bf16", modelopt(), shape=scalar),
    "modelopt-bias": Style("dense-bias", modelopt(), shape=flat, excluded=()),
    "modelopt-rows": Style("moe-bf16", modelopt("FP8_PER_CHANNEL_PER_TOKEN"), block=ROWS, shape=flat),
    "modelopt-experts": Style("moe", modelopt(), shape=scalar, excluded=(".experts.2.", ".experts.0.down")),
    "modelopt-layers": Style(
        "moe-bf16", modelopt("MIXED_PRECISION", quantized_layers=MIXED), shape=scalar, excluded=(".layers.0.", ".4.")
    ),
    "modelopt-blocks": Style(
        "moe-aligned", modelopt("FP8_PB_WO"), block=(128, 128),
        shape=lambda scale: scale.reshape(scale.shape[0], 1, scale.shape[1], 1), reference=False,
    ),
    "compressed-rows": Style("moe-bf16", compressed("channel"), block=ROWS, scale_dtype=torch.bfloat16),
    "compressed-blocks": Style("moe-bf16", compressed("block", block_structure=[32, 64]), block=(32, 64)),
    "compressed-tensor": Style(
        "moe-bf16", compressed("tensor"), shape=flat, scale_dtype=torch.bfloat16, extras=("input_scale", "k_scale"),
        reference=False,
    ),
    "fp8-blocks": Style(
        "moe-bf16", fine_grained([32, 64]), block=(32, 64), suffix="_scale_inv", extras=("activation_scale",)
    ),
    "fp8-blocks-of-128": Style("mtp", fine_grained([128, 128]), block=(128, 128), suffix="_scale_inv"),
    "fp8-tensor": Style("dense-bf16", fine_grained(None), shape=scalar, suffix="_scale_inv"),
    "fp8-other-name": Style("dense", fine_grained(None), shape=scalar, extras=("input_scale",), reference=False),
    "fp8-e5m2": Style("dense-bf16", modelopt(), shape=scalar, dtype=torch.float8_e5m2),
}  # fmt: skip


@dataclass
class Pairs:
    """Checkpoints in 8 bits and their plain twins, made when they are asked for."""

    folder: Path
    checkpoints: Checkpoints
    made: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    def get(self, name: str) -> tuple[Path, Path]:
        if name not in self.made:
            self.made[name] = self._make(name, STYLES[name])
        return self.made[name]

    def _make(self, name: str, style: Style) -> tuple[Path, Path]:
        source = self.checkpoints.get(style.kind)
        eight, twin = self.folder / "eight" / name, self.folder / "twin" / name
        for folder in (eight, twin):
            shutil.copytree(source, folder)
        for file in sorted(source.glob("*.safetensors")):
            quantize_file(file, eight / file.name, twin / file.name, style)
        config = json.loads(eight.joinpath("config.json").read_text(encoding="utf-8"))
        if style.config is not None:
            config["quantization_config"] = style.config
            eight.joinpath("config.json").write_text(json.dumps(config), encoding="utf-8")
        if style.exported is not None:
            eight.joinpath("hf_quant_config.json").write_text(json.dumps(style.exported), encoding="utf-8")
        return eight, twin


def quantize_file(source: Path, eight: Path, twin: Path, style: Style) -> None:
    from safetensors.torch import load_file, save_file

    ours: dict[str, torch.Tensor] = {}
    plain: dict[str, torch.Tensor] = {}
    for name, weight in load_file(source).items():
        ours[name] = plain[name] = weight
        if style.takes(name, weight):
            ours[name], ours[name + style.suffix], plain[name] = style.quantize(weight)
            ours |= {name.removesuffix("weight") + extra: torch.tensor(0.25) for extra in style.extras}
        elif ".experts." in name:
            plain[name] = weight.float()  # stacked with others that are F32 in the twin
    save_file(ours, eight, metadata={"format": "pt"})
    save_file(plain, twin, metadata={"format": "pt"})
    index = eight.parent / "model.safetensors.index.json"
    if index.is_file():
        value = json.loads(index.read_text(encoding="utf-8"))
        value["weight_map"] |= dict.fromkeys(ours, eight.name)
        index.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def pairs(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return Pairs(tmp_path_factory.mktemp("fp8"), checkpoints)


@pytest.fixture(scope="module")
def theirs(pairs: Pairs, reference: Reference) -> Mapping[tuple[Path, str], Path]:
    names = [name for name, style in STYLES.items() if style.reference]
    pre = {name: "tekken" if "Lu" in kind.regex else "pixtral" for name, kind in pairs.checkpoints.KINDS.items()}
    return reference.convert(
        [(pairs.get(name)[0], outtype, pre[STYLES[name].kind]) for name in names for outtype in OUTTYPES]
    )


def convert(folder: Path, outtype: Any, target: Path) -> GGUFFile:
    with open_checkpoint(folder) as checkpoint:
        write_files([Output(plan_conversion(checkpoint, outtype), target)], WriteOptions(threads=2))
    return read_gguf(target)


def tensors(file: GGUFFile) -> dict[str, tuple[tuple[int, ...], str, bytes]]:
    raw = file.path.read_bytes()
    return {t.name: (t.shape, t.type.name, raw[t.offset : t.offset + t.nbytes]) for t in file.tensors}


def different(first: GGUFFile, second: GGUFFile) -> list[str]:
    """Names of tensors that are not the same to the byte."""
    ours, theirs = tensors(first), tensors(second)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


@pytest.mark.parametrize("outtype", OUTTYPES)
@pytest.mark.parametrize("name", [name for name, style in STYLES.items() if style.reference])
def test_a_file_is_that_of_the_reference(
    name: str, outtype: str, pairs: Pairs, theirs: Mapping[tuple[Path, str], Path], tmp_path: Path
) -> None:
    folder, _ = pairs.get(name)
    ours, reference = convert(folder, outtype, tmp_path / "ours.gguf"), read_gguf(theirs[folder, outtype])
    added = "ssm_conv1d.bias" if STYLES[name].kind == "moe-f16" else "nothing"  # zeros, see test_against_converter
    assert not [tensor for tensor in different(ours, reference) if not tensor.endswith(added)]
    keys = dict(ours.metadata)
    assert keys.pop(PRECISION).plain() == ("F8_E5M2" if name == "fp8-e5m2" else "F8_E4M3")
    context = f"{ours.architecture}.context_length"  # ours is what the model supports
    other = {key: value for key, value in reference.metadata.items() if key != context}
    assert {key: value for key, value in keys.items() if key != context} == other


@pytest.mark.parametrize(
    ("name", "outtype"),
    [
        (name, outtype)
        for name, style in STYLES.items()
        for outtype in OUTTYPES
        if outtype == "f32" or not style.reference
    ],
)
def test_a_file_is_that_of_the_product_by_torch(name: str, outtype: str, pairs: Pairs, tmp_path: Path) -> None:
    eight, twin = pairs.get(name)
    ours = convert(eight, outtype, tmp_path / "ours.gguf")
    assert not different(ours, convert(twin, outtype, tmp_path / "twin.gguf"))


@pytest.mark.parametrize(
    ("name", "scaled", "in_all"), [("modelopt", 66, 103), ("modelopt-f32", 73, 103), ("compressed-tensor", 66, 103)]
)
def test_a_plan_tells_of_8_bits(name: str, scaled: int, in_all: int, pairs: Pairs) -> None:
    with open_checkpoint(pairs.get(name)[0]) as checkpoint:
        assert checkpoint.precision().name == "BF16"
        plan = plan_conversion(checkpoint)
        assert {tensor.type.name for tensor in plan.tensors if tensor.name.endswith("in.weight")} == {"BF16"}
    maker = "compressed-tensors" if name == "compressed-tensor" else "ModelOpt"
    told = (
        f"the source is FP8 ({maker}): {scaled} of its {in_all} tensors are F8_E4M3, multiplied by their scales to BF16"
    )
    assert [note for note in plan.notes if "FP8" in note] == [told]


@pytest.mark.parametrize("name", ["modelopt-mtp", "modelopt-experts", "fp8-blocks"])
def test_one_pass_is_converting_and_then_quantizing(name: str, pairs: Pairs, tmp_path: Path) -> None:
    types = ("Q8_0", "Q4_K_M", "F16", "F32")

    def quantized(plan: FilePlan, made: str) -> list[Output]:
        options = {kind: QuantizeOptions(type=file_type(kind)) for kind in types}
        return [
            Output(plan_quantization(plan, option), tmp_path / f"{made}-{kind}.gguf")
            for kind, option in options.items()
        ]

    with open_checkpoint(pairs.get(name)[0]) as checkpoint:
        plan = plan_conversion(checkpoint)
        write_files(quantized(plan, "one"), WriteOptions(threads=2))
        write_files([Output(plan, tmp_path / "plain.gguf")], WriteOptions(threads=2))
    for output in quantized(plan_of_file(tmp_path / "plain.gguf"), "two"):
        write_files([output], WriteOptions(threads=2))
    for kind in types:
        assert tmp_path.joinpath(f"one-{kind}.gguf").read_bytes() == tmp_path.joinpath(f"two-{kind}.gguf").read_bytes()
