"""`nemotron fit` on the shapes of Nemotron 3 Nano 30B-A3B: how long it takes, that a larger budget is never worse.

    python bench/fit_real.py [FOLDER]

The file is the model's header with a hole for the weights (63 GB that take a few kB of disk), the importance matrix one
of random numbers in the right shapes: what is chosen is by the family's defaults, sizes and times are those of the real
model. Sampled rows are zeros, which cost as much time to try as others.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_writer import encode_header
from nemotron_gguf.models.imatrix import Sums, read_imatrix, write_imatrix
from nemotron_gguf.quant.fit.choice import choose
from nemotron_gguf.ui.fit.room import use_of
from nemotron_gguf.ui.fit.show import main_types, widths
from nemotron_gguf.ui.fit.study import open_source, study

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nemotron_gguf.quant.fit.choice import Choice, Problem

# Tests are no part of the package, but their helpers are imported by the name that mypy knows them under.
sys.modules.setdefault("nemotron_gguf.tests", ModuleType("nemotron_gguf.tests")).__path__ = [
    str(Path(__file__).parent.parent / "tests")
]
SIZES = [size * 10**9 for size in (10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 25, 28, 32)]
CONTEXT = 131_072


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took, in all and of the processor."""
    begun, worked = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s, {time.process_time() - worked:.1f} s of the processor")


def write_model(path: Path) -> None:
    """The header, and a hole."""
    from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import metadata, tensors

    header = encode_header(metadata(), list(tensors()))
    with path.open("wb") as file:
        file.write(header.data)
        file.truncate(header.file_size)


def write_importance(path: Path) -> None:
    """Random numbers for every matrix but embedding and output, as `nemotron imatrix` has them."""
    from nemotron_gguf.tests.against.quantizer.test_against_quantizer_30b import tensors

    rng, entries = np.random.default_rng(0), {}
    for name, shape, _ in tensors():
        if name.startswith("blk.") and name.endswith(".weight") and len(shape) > 1 and "conv1d" not in name:
            n_parts = shape[0] if len(shape) == 3 else 1
            entries[name] = Sums.of(rng.random((n_parts, shape[-1])) + 0.1, np.full(n_parts, 1000))
    write_imatrix(path, entries, datasets=["random"], chunk_count=1, chunk_size=512)


def told(choice: Choice | None) -> str:
    assert choice
    return f"{choice.nbytes / 1e9:.3f} GB, predicted {choice.loss:.4g}, experts {main_types(choice)}; {widths(choice)}"


def chosen(problems: list[Problem]) -> list[Choice]:
    found = [choose(problems, size) for size in SIZES]
    for choice in found:
        print(f"  {told(choice)}")
    return [choice for choice in found if choice]


def main() -> None:
    with TemporaryDirectory(prefix="fit-") as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model, matrix = folder / "nano.gguf", folder / "nano.imatrix.gguf"
        if not matrix.exists():
            write_model(model)
            write_importance(matrix)
        with open_source(str(model), keep_source=False, quiet=True) as source, timed("all together"):
            with timed("the header, and trying the types on sampled rows"):
                weights = read_imatrix(matrix)
                found = study(source, weights, {}, sampled=True, neurons=None, report=lambda *_: None)
            with timed("every set of widths"):
                problems = found.problems()
            with timed(f"{len(SIZES)} sizes"):
                first = chosen(problems)
            for smaller, larger in pairwise(first):
                assert smaller.loss >= larger.loss, "monotone"
            assert [one.key for one in first] == [choose(problems, size).key for size in SIZES]  # type: ignore[union-attr]
            with timed("a card of 16 GiB with 128k of context, 1 GiB kept free"):
                card = found.problems(use_of(CONTEXT, 1, GGMLType.F16))
                print(f"  {told(choose(card, 15 << 30))}")


if __name__ == "__main__":
    main()
