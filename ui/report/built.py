"""The page of `nemotron build --report`: what was built of a model, what it costs in quality, how to run it."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import sqrt

from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.widths import padded_from, trimmed_from
from nemotron_gguf.quant.accuracy import TensorError
from nemotron_gguf.quant.classes import CLASSES, class_of
from nemotron_gguf.quant.place import layer_of
from nemotron_gguf.runner.measure.evaluation import Evaluation
from nemotron_gguf.ui import console
from nemotron_gguf.ui.memory import describe_needs
from nemotron_gguf.ui.report.charts import Axis, Line, curves
from nemotron_gguf.ui.report.page import COLORS, commands, folded, legend, page, section, table
from nemotron_gguf.ui.report.pictures import shares, types_by_layer
from nemotron_gguf.ui.report.quality import sections as quality

# From few bits to many, apart from each other on white and on black, and for those who see fewer colours.
_RAMP = ("#5b2a86", "#3f4fa3", "#2a7aa8", "#219a94", "#4fae63", "#a0b93a", "#e0a32b", "#d9662b", "#b8384a", "#7d7d7d")
_HUES = (*COLORS, "#a34b3a", "#3a6ea3", "#7a8a2a", "#94507f", "#c08a2e", "#a3803a", "#5a5f8a", "#8a8f8c")
GROUPS = {name: name.replace("_", " ") for name in CLASSES}
CONTEXTS = (16_384, 131_072)


@dataclass(frozen=True)
class Built:
    """A file: its header, its tensors' errors (none for one of an earlier run), its evaluation if there is one."""

    file: GGUFFile
    errors: Sequence[TensorError] = ()
    evaluation: Evaluation | None = None

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.file.path.name

    @property
    def n_layers(self) -> int:
        """Layers that have tensors."""
        return 1 + max(
            (layer for tensor in self.file.tensors if (layer := layer_of(tensor.name)) is not None), default=0
        )


def build_page(model: str, files: Sequence[Built], notes: Sequence[str]) -> str:
    """The whole page; `notes` were told when the files were planned."""
    count = "One file" if len(files) == 1 else f"{len(files)} files"
    lead = f"{count}, made by nemotron-gguf."
    colors = _type_colors(files)
    parts = [_files(files, notes), _sizes(files), _types(files, colors)]
    measured = [one.evaluation for one in files if one.evaluation is not None]
    if measured:
        parts += quality(measured)
    else:
        words = "Not measured yet. Build with --against a file in BF16, or say:"
        line = (
            f"nemotron eval {_shown(files[0])} --against BF16.gguf --keep {shlex.quote(str(files[0].file.path.parent))}"
        )
        parts.append(section("Divergence against size", words, commands([line])))
    parts += [_errors(files), _running(files)]
    return page(f"{model}: what was built", lead, [part for part in parts if part])


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:].rstrip(".") + "."


def _shown(built: Built) -> str:
    return shlex.quote(str(built.file.path))


def _files(files: Sequence[Built], notes: Sequence[str]) -> str:
    rows = [("file", "size", "bits a weight", "tensors", "widths changed")]
    for one in files:
        tensors = one.file.tensors
        bits = 8 * one.file.file_size / sum(tensor.n_elements for tensor in tensors)
        widths = [f"{name} from {was}" for name, was in _widths(one.file).items()]
        row = (one.name, console.size(one.file.file_size), f"{bits:.2f}", _mixture(one), ", ".join(widths) or "none")
        rows.append(row)
    said = "".join(f"<p>{escape(_sentence(note))}</p>" for note in notes)
    return section("Files", "A split file counts with all its parts.", table(rows) + said)


def _widths(file: GGUFFile) -> dict[str, int]:
    padded, trimmed = padded_from(file.metadata), trimmed_from(file.metadata)
    return {f"{key} padded": was for key, was in padded.items()} | {
        f"{key} trimmed": was for key, was in trimmed.items()
    }


def _mixture(one: Built) -> str:
    counts: defaultdict[GGMLType, int] = defaultdict(int)
    for tensor in one.file.tensors:
        counts[tensor.type] += tensor.nbytes
    kinds = sorted((kind for kind in counts if kind is not GGMLType.F32), key=lambda kind: -counts[kind])
    return ", ".join(kind.name for kind in kinds) or "F32"


def _sizes(files: Sequence[Built]) -> str:
    rows = []
    for one in files:
        groups: defaultdict[str, int] = defaultdict(int)
        for tensor in one.file.tensors:
            groups[class_of(tensor.name)] += tensor.nbytes
        rows.append(
            (one.file.path.stem[-18:], {k: groups[k] for k in CLASSES if k in groups}, console.size(one.file.file_size))
        )
    there = [name for name in CLASSES if any(name in groups for _, groups, _ in rows)]
    colors = {name: _HUES[index % len(_HUES)] for index, name in enumerate(CLASSES)}
    drawn = shares(rows, colors) + legend([(GROUPS[name], colors[name]) for name in there])
    words = [("tensors", *(one.name for one in files))]
    words += [(GROUPS[name], *(f"{groups.get(name, 0) / 1e6:,.1f} MB" for _, groups, _ in rows)) for name in there]
    return section(
        "Where the bytes are", "Every group of tensors, over all layers.", drawn + folded("In numbers", table(words))
    )


def _type_colors(files: Sequence[Built]) -> dict[str, str]:
    """A colour for each type that lies in a file, from few bits to many."""
    kinds = sorted(
        {t.type for one in files for t in one.file.tensors}, key=lambda kind: (kind.bits_per_weight, kind.name)
    )
    last = max(len(kinds) - 1, 1)
    return {kind.name: _RAMP[round(index * (len(_RAMP) - 1) / last)] for index, kind in enumerate(kinds)}


def _types(files: Sequence[Built], colors: Mapping[str, str]) -> str:
    drawn = ""
    for one in files:
        cells: dict[tuple[str, int], str] = {}
        for tensor in sorted(one.file.tensors, key=lambda tensor: CLASSES.index(class_of(tensor.name))):
            kind = class_of(tensor.name)
            if kind == "other":
                continue
            layer = layer_of(tensor.name)
            place = layer if layer is not None else -1 if kind == "embedding" else one.n_layers
            cells[GROUPS[kind], place] = tensor.type.name
        used = [(name, color) for name, color in colors.items() if name in cells.values()]
        title = f"types of {one.name} by layer"
        drawn += f"<h3>{escape(one.name)}</h3>" + types_by_layer(cells, one.n_layers, colors, title) + legend(used)
    words = "The embedding stands before the first layer, the output behind the last. Norms and the like are F32."
    return section("Types by layer", words, drawn)


def _errors(files: Sequence[Built]) -> str:
    """The errors of what was built now; of earlier files no weights are at hand."""
    drawn = "".join(_errors_of(one) for one in files if any(error.relative is not None for error in one.errors))
    if not drawn:
        return ""
    words = (
        "The relative error of each tensor: the root of the squared error of its weights over their squares, in some"
        " rows evenly apart. It says what rounding did to the weights, not what that does to the answers."
    )
    return section("Error of the weights", words, drawn)


def _errors_of(one: Built) -> str:
    by_class: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    rows = [("tensor", "type", "shape", "size", "error")]
    for error in one.errors:
        layer, relative = layer_of(error.tensor.name), error.relative
        if relative is not None and layer is not None:
            by_class[class_of(error.tensor.name)].append((float(layer), 100 * relative))
        shape = "×".join(map(str, error.tensor.shape))
        shown = "as converted" if relative is None else f"{100 * relative:.3f} %"
        rows.append((error.tensor.name, error.tensor.type.name, shape, console.size(error.tensor.nbytes), shown))
    lines = [
        Line(GROUPS[name], _HUES[CLASSES.index(name) % len(_HUES)], by_class[name])
        for name in CLASSES
        if name in by_class
    ]
    all_of_it = sqrt(sum((e.relative or 0) ** 2 * e.tensor.n_rows * e.tensor.n_per_row for e in one.errors)
                     / sum(e.tensor.n_rows * e.tensor.n_per_row for e in one.errors))  # fmt: skip
    chart = curves(lines, Axis("layer"), Axis("relative error, %"), dotted=True) if lines else ""
    about = f"<p>Over all weights: {100 * all_of_it:.3f} %.</p>"
    names = legend([(line.name, line.color) for line in lines])
    return f"<h3>{escape(one.name)}</h3>{about}{chart}{names}" + folded("Tensor by tensor", table(rows))


def _running(files: Sequence[Built]) -> str:
    rows = [("on one card, all layers", *(f"with {context:,} tokens of context" for context in CONTEXTS))]
    drawn = ""
    for one in files:
        needed = [describe_needs(one.file, None, context) for context in CONTEXTS]
        rows.append((one.name, *(f"{int(str(needs['total'])) / 2**30:.2f} GiB" for needs in needed)))
        lines = [
            f"nemotron chat {_shown(one)}",
            f"nemotron ui {_shown(one)}",
            f"nemotron inspect {_shown(one)} --memory 16GiB --context 128k",
            f"llama-server -m {_shown(one)} -c {CONTEXTS[0]} --jinja",
        ]
        drawn += f"<h3>{escape(one.name)}</h3>" + commands(lines)
    words = "Weights, cache in F16, state and an estimate of what is computed with. Any llama.cpp runs these files."
    return section("How to run them", words, table(rows) + drawn)
