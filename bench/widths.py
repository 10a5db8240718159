"""What padding does to a model's answers, and to the sizes of the real 30B.

    python bench/widths.py norms    KL divergence of padded files, kept right in either way, against the unpadded ones
    python bench/widths.py sizes    file sizes of Nemotron 3 Nano 30B-A3B by type, from its shapes (a dry run)

`norms`: random small models of each kind of layer, and the demo model; 100 random tokens; F32 and BF16 files, each
against the unpadded file of its own type, in libllama on the processor. Both ways are measured in both types, though a
conversion makes `stream` in F32 and `epsilon` in 16 bits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import llama_cpp
import numpy as np

from nemotron_gguf.convert import FilePlan, Output, WriteOptions, open_checkpoint, plan_conversion, write_files
from nemotron_gguf.convert.widths.change import Change, new_widths, resized, widths_of
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.imatrix import Imatrix
from nemotron_gguf.models.widths import Norms
from nemotron_gguf.quant import (
    FILE_TYPES,
    QuantError,
    QuantizeOptions,
    file_type,
    parse_tensor_type,
    plan_of_file,
    plan_quantization,
    to_be_trimmed,
)

# The tests' helpers, by the name that mypy knows them under.
sys.modules.setdefault("nemotron_gguf.tests", ModuleType("nemotron_gguf.tests")).__path__ = [
    str(Path(__file__).parent.parent / "tests")
]
IMATRIX = Imatrix("any", {}, (), 0)  # there is one: sizes ask no more
TABLE = (("IQ4_XS", "Q6_K"), ("IQ3_S", "Q6_K"), ("IQ3_XXS", "Q5_K"), ("IQ2_S", "Q5_K"), ("IQ2_XS", "Q5_K"))


def main() -> None:
    """Print one table or the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("norms", "sizes"))
    with TemporaryDirectory(prefix="widths-") as folder:
        norms(Path(folder)) if parser.parse_args().what == "norms" else sizes(Path(folder))


def norms(folder: Path) -> None:
    """A line for each model, way and type."""
    from nemotron_gguf.tests.against.test_against_transformers import kl, llama_logits
    from nemotron_gguf.tests.conftest import KINDS, Checkpoints

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    tokens = np.random.default_rng(0).integers(8, 400, 100).tolist()
    checkpoints = Checkpoints(folder)
    sources = {kind: checkpoints.get(kind) for kind in ("moe", "latent", "mtp", "dense", "dense-bias")}
    sources["dense, tied"] = checkpoints.make(folder / "tied", KINDS["dense"], tied=True)
    sources["demo"] = CHECKPOINT
    print(f"{'model':12} {'norms':8} {'type':5} {'mean KL':>9} {'max KL':>9}  top-1")
    for name, source in sources.items():
        with ExitStack() as stack:
            checkpoint = stack.enter_context(open_checkpoint(source))
            for stored in ("f32", "bf16"):
                plan = plan_conversion(checkpoint, stored)
                expected = llama_logits(written(plan, folder / "plain.gguf"), tokens)
                for way, wide in padded_ways(plan, stored):
                    found = llama_logits(written(wide, folder / "wide.gguf"), tokens)
                    divergence, same = kl(expected, found), expected.argmax(axis=1) == found.argmax(axis=1)
                    figures = f"{divergence.mean():9.1e} {divergence.max():9.1e} {same.mean():6.0%}"
                    print(f"{name:12} {way:8} {stored:5} {figures}")


def padded_ways(plan: FilePlan, stored: str) -> Iterator[tuple[str, FilePlan]]:
    """The plan with all widths padded, its norms kept right in either way."""
    widths = widths_of(plan)
    for way in Norms:
        wide = resized(plan, Change(new_widths(widths, pad=tuple(widths)), way))
        yield way, plan_quantization(wide, QuantizeOptions(file_type("BF16"))) if stored == "bf16" else wide


def written(plan: FilePlan, path: Path) -> Path:
    write_files([Output(plan, path)], WriteOptions(force=True))
    return path


def sizes(folder: Path) -> None:
    """The table of experts' types, and one of all file types: without padding, as `auto` decides, and trimmed."""
    from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import metadata, tensors

    path = folder / "30b.gguf"
    header = encode_header(metadata(), list(tensors()))
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)
    plan = plan_of_file(path)
    trim = to_be_trimmed(plan)
    print("experts   others    padded   hidden padded, experts trimmed   (GB)")
    for experts, others in TABLE:
        types = tuple(parse_tensor_type(f"{part}={kind}") for part, kind in (("_exps", experts), ("blk", others)))
        base = QuantizeOptions(file_type("Q6_K"), IMATRIX, types, GGMLType.Q6_K, GGMLType.Q4_K, dry_run=True, pad="all")
        pair = (size_of(plan, options) for options in (base, replace(base, trim=trim)))
        print(f"{experts:9} {others:9} {'   '.join(f'{size:6.2f}' for size in pair)}")
    print("\nfile type   stock     auto  trimmed   (GB)   padded by auto")
    for kind in FILE_TYPES:
        plain = QuantizeOptions(kind, IMATRIX, dry_run=True)
        options = (plain, replace(plain, pad="auto"), replace(plain, pad="auto", trim=trim))
        row = "  ".join(f"{size_of(plan, option):7.2f}" for option in options)
        print(f"{kind.name:10} {row}          {what_was_padded(plan, options[1])}")


def size_of(plan: FilePlan, options: QuantizeOptions) -> float:
    """GB, or NaN where no type fits."""
    try:
        return plan_quantization(plan, options).header.file_size / 1e9
    except QuantError:
        return float("nan")


def what_was_padded(plan: FilePlan, options: QuantizeOptions) -> str:
    notes = plan_quantization(plan, options).notes
    return next((note.removeprefix("widths: ") for note in notes if note.startswith("widths: ")), "")


if __name__ == "__main__":
    main()
