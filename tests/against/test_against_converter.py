"""Our files against those of llama.cpp's converter: every tensor to the byte, every key of the model and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.convert import Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo, read_gguf
from nemotron_gguf.models.gguf_values import Value

if TYPE_CHECKING:
    from nemotron_gguf.tests.against.conftest import Reference
    from nemotron_gguf.tests.conftest import Checkpoints

KINDS = ("moe", "moe-bf16", "moe-aligned", "moe-f16", "latent", "mtp", "dense", "dense-bias", "dense-bf16")
OUTTYPES = ("f32", "f16", "bf16")
FILE_KEYS = ("general.architecture", "general.type", "general.file_type", "general.quantization_version")


@pytest.fixture(scope="module")
def theirs(checkpoints: Checkpoints, reference: Reference) -> Mapping[tuple[Path, str], Path]:
    pre = {name: "tekken" if "Lu" in kind.regex else "pixtral" for name, kind in checkpoints.KINDS.items()}
    return reference.convert([(checkpoints.get(name), outtype, pre[name]) for name in KINDS for outtype in OUTTYPES])


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    checkpoints: Checkpoints,
    theirs: Mapping[tuple[Path, str], Path],
    tmp_path: Path,
) -> tuple[GGUFFile, GGUFFile]:
    name, outtype = request.param
    folder = checkpoints.get(name)
    target = tmp_path / "ours.gguf"
    with open_checkpoint(folder) as checkpoint:
        write_files([Output(plan_conversion(checkpoint, outtype), target)], WriteOptions(threads=2))
    return read_gguf(target), read_gguf(theirs[folder, outtype])


every_file = pytest.mark.parametrize("pair", [(name, outtype) for name in KINDS for outtype in OUTTYPES], indirect=True)


@every_file
def test_every_tensor_is_the_same_to_the_byte(pair: tuple[GGUFFile, GGUFFile]) -> None:
    ours, theirs = ({tensor.name: tensor for tensor in file.tensors} for file in pair)
    if not any(name.endswith("ssm_conv1d.bias") for name in theirs):  # then llama.cpp dies of their file
        added = [name for name in ours if name.endswith("ssm_conv1d.bias")]
        assert added
        assert not any(any(data(pair[0], ours.pop(name))) for name in added), "zeros change nothing"
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor.shape, tensor.type) == (theirs[name].shape, theirs[name].type), name
        assert data(pair[0], tensor) == data(pair[1], theirs[name]), name


@every_file
def test_every_key_is_the_same(pair: tuple[GGUFFile, GGUFFile]) -> None:
    ours, theirs = (dict(file.metadata) for file in pair)
    arch = pair[1].architecture
    # llama.cpp writes 2^20 for every hybrid; ours is what the model supports
    assert theirs.pop(f"{arch}.context_length").plain() == 1 << 20
    assert ours.pop(f"{arch}.context_length").plain() == 4096
    assert ours.keys() == theirs.keys()
    different = {key: (brief(value), brief(theirs[key])) for key, value in ours.items() if value != theirs[key]}
    assert not different


def data(file: GGUFFile, tensor: TensorInfo) -> bytes:
    with file.path.open("rb") as stream:
        stream.seek(tensor.offset)
        return stream.read(tensor.nbytes)


def brief(value: Value) -> str:
    return f"{value.type.name} {str(value.plain())[:200]}"
