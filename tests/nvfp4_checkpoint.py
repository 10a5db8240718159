"""Checkpoints in 4-bit floats as ModelOpt and compressed-tensors write them, and plain twins of the same values.

The arithmetic is torch's, by the formats' own definition: weight = E2M1 code × E4M3 scale of 16 columns × scale of all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

E4M3 = torch.float8_e4m3fn
LEVELS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
GROUP = 16


def modelopt(algorithm: str = "NVFP4", **more: Any) -> dict[str, Any]:
    return {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["lm_head"], **more}


def exported(algorithm: str = "NVFP4", **more: Any) -> dict[str, Any]:
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": "FP8", "group_size": GROUP, **more}
    return {"producer": {"name": "modelopt", "version": "0.37.0"}, "quantization": quantization}


def compressed() -> dict[str, Any]:
    weights = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": GROUP, "symmetric": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": {**weights, "dynamic": "local"}}
    return {
        "quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"group_0": group},
    }  # fmt: skip


@dataclass(frozen=True)
class Style:
    """What the configs say, and which matrices are in 4 bits (`taken`), which in 8 (`eight`), by parts of names."""

    config: Mapping[str, Any] | None
    exported: Mapping[str, Any] | None = None
    taken: tuple[str, ...] = (".mixer.",)
    left: tuple[str, ...] = (".gate.", "conv1d", ".layers.0.")
    eight: tuple[str, ...] = ()
    packed: bool = False  # compressed-tensors' names
    input_scale: bool = True
    trivial: bool = False  # scales of all that are 1

    def bits(self, name: str, weight: torch.Tensor) -> int:
        if weight.dim() != 2 or any(part in name for part in self.left):
            return 16
        if any(part in name for part in self.eight):
            return 8
        return 4 if any(part in name for part in self.taken) and weight.shape[1] % GROUP == 0 else 16


def quantize(weight: torch.Tensor, trivial: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Packed codes, scales of 16 and the scale of all; one row is pruned away, with minus zeros among its codes."""
    rows, columns = weight.shape
    values = weight.float().clone()
    values[rows // 2] = -0.0
    groups = values.reshape(rows, columns // GROUP, GROUP)
    scale = torch.tensor(1.0) if trivial else values.abs().max() / (6 * 448)
    blocks = (groups.abs().amax(-1) / 6 / scale).to(E4M3)
    spread = blocks.float()[..., None] * scale
    ratio = torch.where(spread > 0, groups / spread, groups)
    nearest = (ratio.abs()[..., None] - LEVELS).abs().argmin(-1)
    codes = (nearest + 8 * torch.signbit(ratio)).reshape(rows, columns).to(torch.uint8)
    return codes[:, 0::2] | codes[:, 1::2] << 4, blocks, scale


def value(packed: torch.Tensor, blocks: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What they stand for, in float64: exact, since four, four and 24 bits make no more than 53."""
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(1).long()
    signed = LEVELS.double()[codes & 7] * torch.where(codes > 7, -1.0, 1.0)
    return signed * blocks.double().repeat_interleave(GROUP, 1) * scale.double()


def make(source: Path, folder: Path, style: Style) -> tuple[Path, dict[str, torch.Tensor]]:
    """The checkpoint of `source` in 4 bits, and by name the exact values of what was quantized."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    exact: dict[str, torch.Tensor] = {}
    for file in sorted(source.glob("*.safetensors")):
        tensors: dict[str, torch.Tensor] = {}
        for name, weight in load_file(file).items():
            tensors |= _one(name, weight, style, exact)
        save_file(tensors, folder / file.name, metadata={"format": "pt"})
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            listed = json.loads(index.read_text(encoding="utf-8"))
            kept = {name: where for name, where in listed["weight_map"].items() if where != file.name}
            listed["weight_map"] = kept | dict.fromkeys(tensors, file.name)
            index.write_text(json.dumps(listed), encoding="utf-8")
    config = json.loads(folder.joinpath("config.json").read_text(encoding="utf-8"))
    if style.config is not None:
        config["quantization_config"] = style.config
        folder.joinpath("config.json").write_text(json.dumps(config), encoding="utf-8")
    if style.exported is not None:
        folder.joinpath("hf_quant_config.json").write_text(json.dumps(style.exported), encoding="utf-8")
    return folder, exact


def _one(name: str, weight: torch.Tensor, style: Style, exact: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    bits, module = style.bits(name, weight), name.removesuffix(".weight")
    if bits == 16:
        return {name: weight}
    if bits == 8:
        scale = weight.float().abs().max() / 448
        codes = (weight.float() / scale).to(E4M3)
        exact[name] = codes.double() * scale.double()
        return {name: codes, f"{name}_scale": scale, f"{module}.input_scale": torch.tensor(0.25)}
    packed, blocks, scale = quantize(weight, style.trivial)
    inputs = torch.tensor(0.001 + len(exact) / 1024)
    if style.packed:
        scale = 1 / scale  # the reciprocal, rounded, is what is saved
        exact[name] = value(packed, blocks, 1 / scale)
        made = {f"{name}_packed": packed, f"{name}_scale": blocks, f"{name}_global_scale": scale.reshape(1)}
        return made | ({f"{module}.input_global_scale": (1 / inputs).reshape(1)} if style.input_scale else {})
    exact[name] = value(packed, blocks, scale)
    made = {name: packed, f"{name}_scale": blocks, f"{name}_scale_2": scale}
    return made | ({f"{module}.input_scale": inputs} if style.input_scale else {})


def twin(source: Path, folder: Path, exact: Mapping[str, torch.Tensor]) -> Path:
    """The checkpoint of `source` in F32, with the exact values rounded to it."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    for file in sorted(folder.glob("*.safetensors")):
        tensors = {name: exact.get(name, weight).float() for name, weight in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    return folder
