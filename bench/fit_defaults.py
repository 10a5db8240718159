"""What `nemotron fit` takes where nothing was measured: errors of types, sensitivities of classes.

    python bench/fit_defaults.py types
    python bench/fit_defaults.py sensitivities FOLDER… (those of bench/fit.py, each with its F32.gguf and its tables)

A sensitivity is the divergence of a class for a unit of its weights' relative squared error: the geometric mean over
the types that were measured of the whole class, with importance.
"""

from __future__ import annotations

import sys
from math import exp, log
from pathlib import Path

import numpy as np

from nemotron_gguf.models.divergences import read_divergences
from nemotron_gguf.models.imatrix import read_imatrix
from nemotron_gguf.quant import plan_of_file
from nemotron_gguf.quant.classes import CLASSES, Cell
from nemotron_gguf.quant.fit.alternative import Alternative
from nemotron_gguf.quant.fit.predict import LEAST, Prediction
from nemotron_gguf.quant.fit.sampled import Sample, relative_errors, sample
from nemotron_gguf.quant.fit.types import ERRORS, QUANTIZED


def types() -> None:
    """Print the errors of all types on normal weights, columns alike."""
    rows = np.random.default_rng(0).standard_normal((32, 2560)).astype(np.float32)
    cell = Cell("expert_up")
    kinds = [kind for kind in ERRORS if kind.is_quantized]
    found = relative_errors({cell: [Sample(rows, np.ones(2560, np.float32))]}, kinds)
    for kind in kinds:
        print(f"{kind.name:8} {kind.bits_per_weight:6.3f} {found[cell, kind]:.2e}")


def sensitivities(folder: Path) -> dict[str, float]:
    """Each class's, of one model."""
    imatrix = read_imatrix(folder / "imatrix.gguf")
    plain = Alternative(plan_of_file(folder / "F32.gguf"))
    errors = relative_errors(sample(plain.tensors, plain.cells, imatrix), QUANTIZED)
    measured = read_divergences(folder / "imatrix.divergences.jsonl").cells
    prediction = Prediction(errors, {cell: len(names) for cell, names in plain.cells.items()}, measured)
    found = {}
    for name in CLASSES:
        if any(cell.name == name for cell in plain.cells) and (anchors := prediction.anchors(name)):
            found[name] = exp(sum(log(max(mean, LEAST) / error) for error, mean in anchors) / len(anchors))
    return found


def main() -> None:
    if sys.argv[1:2] == ["types"]:
        types()
        return
    if sys.argv[1:2] != ["sensitivities"] or len(sys.argv) < 3:
        sys.exit(__doc__)
    tables = [sensitivities(Path(name)) for name in sys.argv[2:]]
    for name in CLASSES:
        values = [table[name] for table in tables if name in table]
        if values:
            mean = exp(sum(map(log, values)) / len(values))
            print(f"{name:17} {mean:8.3f}  of {', '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    main()
