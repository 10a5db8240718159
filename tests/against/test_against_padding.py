"""Padded and trimmed files in an unmodified llama.cpp: against transformers, the file without, and its quantizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nemotron_gguf.convert import Output, WriteOptions, open_checkpoint, padded, plan_conversion, write_files
from nemotron_gguf.convert.plan import FilePlan
from nemotron_gguf.convert.widths.change import Change, new_widths, resized, widths_of
from nemotron_gguf.models.imatrix import read_imatrix
from nemotron_gguf.models.widths import Dimension
from nemotron_gguf.quant import QuantizeOptions, file_type, plan_of_file, plan_quantization
from nemotron_gguf.tests.against.quantizer.conftest import Importance, LlamaQuantize
from nemotron_gguf.tests.against.test_against_transformers import kl, llama_logits, transformers_logits

if TYPE_CHECKING:
    from nemotron_gguf.tests.conftest import Checkpoints

TOKENS = np.random.default_rng(0).integers(8, 400, 64).tolist()

LOSSES = {"Q4_K_M": 0.05, "Q3_K_S": 0.3, "IQ3_S": 0.3}  # nats of mean KL divergence that are the type's own


def write(plan: FilePlan, path: Path) -> Path:
    write_files([Output(plan, path)], WriteOptions(threads=2))
    return path


@pytest.mark.parametrize("kind", ["moe", "latent", "mtp", "dense", "dense-bias", "tied"])
def test_padding_changes_nothing(kind: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    """In F32 the same distributions as without, and as transformers on the checkpoint, where it runs it alike."""
    tied = kind == "tied"
    folder = checkpoints.make(tmp_path / kind, checkpoints.KINDS["dense"], tied=True) if tied else checkpoints.get(kind)
    with open_checkpoint(folder) as checkpoint:
        plan = plan_conversion(checkpoint, "f32")
        plain = llama_logits(write(plan, tmp_path / "plain.gguf"), TOKENS)
        wide = llama_logits(write(padded(plan), tmp_path / "padded.gguf"), TOKENS)
    assert plain.std(axis=1).min() > 0.1, "a flat distribution would prove nothing"
    divergence = kl(plain, wide).mean()
    print(f"{kind}: padded against plain, mean KL divergence {divergence:.2e}")
    assert divergence < 1e-9
    if kind in ("moe", "latent", "dense"):
        theirs = transformers_logits(folder, TOKENS)
        assert kl(theirs, wide).mean() < 1e-9
        assert (theirs.argmax(axis=1) == wide.argmax(axis=1)).all()


@pytest.mark.parametrize("name", ["Q4_K_M", "Q3_K_S", "IQ3_S"])
def test_the_demo_model_runs_padded_and_quantized(name: str, demo_files: Mapping[str, Path], tmp_path: Path) -> None:
    """A loss of the size of its type's, from a file without any fall-back."""
    source = plan_of_file(demo_files["BF16"])
    options = QuantizeOptions(file_type(name), pad="all")
    plan = plan_quantization(source, options)
    assert not any("no block of the wanted type fits" in note for note in plan.notes)
    tokens = conversations()
    reference = llama_logits(demo_files["BF16"], tokens)
    unpadded = QuantizeOptions(file_type(name), pad="none")
    losses = [
        kl(reference, llama_logits(write(planned, tmp_path / f"{index}.gguf"), tokens)).mean()
        for index, planned in enumerate((plan, plan_quantization(source, unpadded)))
    ]
    print(f"{name}: mean KL divergence {losses[0]:.4f} padded, {losses[1]:.4f} with larger types instead")
    assert losses[0] < LOSSES[name]


def conversations() -> list[int]:
    """Tokens of the demo model's own world, which it was not trained on."""
    from tokenizers import Tokenizer

    from nemotron_gguf.models.demo import CHECKPOINT
    from nemotron_gguf.models.demo.training.tokenizer import Renderer, rendered

    text = "".join(rendered(Renderer(CHECKPOINT / "chat_template.jinja"), 7, 6))
    return Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")).encode(text).ids[:128]


@pytest.mark.parametrize("name", ["Q4_K_M", "Q3_K_M", "IQ3_S", "IQ2_XS", "IQ4_NL"])
def test_as_the_reference_quantizes_the_padded_file(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    """One pass, with an importance matrix of the unpadded model: the bytes of llama.cpp's quantizer on the padded F32
    file, with the importance extended by zeros.
    """
    found = tmp_path / "i.gguf"
    with open_checkpoint(checkpoints.get("moe-bf16")) as checkpoint:
        plan = plan_conversion(checkpoint, "bf16")
        write(padded(plan_conversion(checkpoint, "f32")), tmp_path / "padded.gguf")
        importance = make_importance(found, plan, tmp_path)
        options = QuantizeOptions(file_type(name), read_imatrix(found), pad="all")
        ours = write(plan_quantization(plan, options), tmp_path / "ours.gguf")
    llama = LlamaQuantize()
    theirs = llama(tmp_path / "padded.gguf", tmp_path / "theirs.gguf", name, importance)
    llama.stop()
    assert len(theirs.data) == ours.stat().st_size
    assert theirs.data == ours.read_bytes()


def make_importance(path: Path, plan: FilePlan, folder: Path) -> Importance:
    """A matrix with the widths of the plan, and as llama-quantize would be given it for the padded file."""
    import gguf

    rng, entries = np.random.default_rng(3), {}
    writer = gguf.GGUFWriter(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["talk.txt"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    wide = {tensor.name: tensor for tensor in padded(plan).tensors}
    for index, tensor in enumerate(plan.tensors):
        if len(tensor.shape) < 2 or not tensor.name.endswith("weight") or "norm" in tensor.name:
            continue
        n_parts = tensor.shape[0] if len(tensor.shape) == 3 else 1
        sums = rng.gamma(0.5, 2, (n_parts, tensor.n_per_row)).astype(np.float32)
        writer.add_tensor(f"{tensor.name}.in_sum2", sums)
        writer.add_tensor(f"{tensor.name}.counts", np.full((n_parts, 1), 3, np.float32))
        means = sums / np.float32(3)
        entries[tensor.name] = str(folder / f"{index}.npy")
        np.save(entries[tensor.name], np.pad(means, ((0, 0), (0, wide[tensor.name].n_per_row - tensor.n_per_row))))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    keys = (("file", str(path)), ("dataset", "talk.txt"), ("entries_count", len(entries)), ("chunks_count", 1))
    return Importance(path, entries, tuple((f"quantize.imatrix.{key}", value) for key, value in keys))


def test_trimming_is_silencing_neurons(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """llama.cpp on the trimmed file, and on one whose neurons' weights are zeros instead."""
    experts, block = Dimension.EXPERT, 32
    with open_checkpoint(checkpoints.get("moe")) as checkpoint:
        plan = plan_conversion(checkpoint, "f32")
        width = widths_of(plan)[experts]
        rng = np.random.default_rng(2)
        kept = {
            t.name: np.stack([np.sort(rng.choice(width, block, replace=False)) for _ in range(t.shape[0])])
            for t in plan.tensors
            if t.name.endswith("ffn_down_exps.weight")
        }
        change = Change(new_widths({experts: width}, trim=(experts,), block=block), kept=kept)
        trimmed = llama_logits(write(resized(plan, change), tmp_path / "trimmed.gguf"), TOKENS)
        plain = write(plan, tmp_path / "plain.gguf")
        whole = llama_logits(plain, TOKENS)
    silence(plain, kept)
    silent = llama_logits(plain, TOKENS)
    assert kl(whole, silent).mean() > 1e-4
    assert kl(silent, trimmed).mean() < 1e-9


def silence(path: Path, kept: Mapping[str, np.ndarray]) -> None:
    """Zeros in the columns that read the other neurons, in the file itself."""
    import gguf

    reader = gguf.GGUFReader(path, "r+")
    for tensor in reader.tensors:
        if tensor.name in kept:
            for matrix, places in zip(tensor.data, kept[tensor.name], strict=True):
                matrix[:, np.setdiff1d(np.arange(matrix.shape[1]), places)] = 0
    reader.data.flush()
