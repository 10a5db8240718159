"""`nemotron fit --calibrate`: the table of divergences, and the chosen file and its neighbours measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.models.divergences import Divergences, Setting, read_divergences, write_divergences
from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.ui import console
from nemotron_gguf.ui.fit.calibrate import Bench, calibrate
from nemotron_gguf.ui.fit.study import MOST_F32, Report, Source
from nemotron_gguf.ui.writing import digest_of

if TYPE_CHECKING:
    from nemotron_gguf.models.imatrix import Imatrix
    from nemotron_gguf.quant.fit.agenda import Measurement
    from nemotron_gguf.quant.fit.choice import Choice
    from nemotron_gguf.quant.trimming import Trimming
    from nemotron_gguf.runner.measure.evaluation import Material, Reference
    from nemotron_gguf.runner.measure.measurer import Measurer


@dataclass(frozen=True)
class Wish:
    """How to measure: texts (ours if none), chunks of 512 tokens, types a class, threads, a folder to work in."""

    text: tuple[Path, ...] = ()
    parse_special: bool = False
    chunks: int = 32
    depth: int = 4
    threads: int | None = None
    folder: Path | None = None


@dataclass
class Laboratory:
    """An open bench and the table that it fills."""

    bench: Bench
    path: Path
    table: Divergences
    report: Report

    def calibrate(self, imatrix: Imatrix | None, depth: int) -> None:
        """Measure what the table lacks."""
        from nemotron_gguf.quant.fit.agenda import agenda

        self.measure_cells(agenda(self.bench.parts.alternative.shares, has_imatrix=imatrix is not None, depth=depth))

    def measure_trimming(self, trim: Trimming) -> None:
        """Measure what leaving out the neurons of each width costs by itself: nothing is quantized for that."""
        whole = self.bench.parts.alternative
        for done, dimension in enumerate(sorted(trim.dimensions)):
            self.report("Measuring trimming", done, len(trim.dimensions))
            key = f"trim={dimension}"
            if key not in self.table.cells:
                less = replace(trim, dimensions=frozenset({dimension}))
                trimmed = replace(whole, pad=whole.pad - less.dimensions, trim=less)
                bench = replace(self.bench, parts=replace(self.bench.parts, alternative=trimmed))
                bench.prepare()
                self.table = self.table.with_cell(key, bench.measure({}))
                write_divergences(self.path, self.table)
        self.report("Measuring trimming", len(trim.dimensions), len(trim.dimensions))

    def measure_cells(self, wanted: Sequence[Measurement]) -> None:
        """Measure classes in types, those that the table does not have yet."""
        self.table = calibrate(
            self.bench, wanted, self.table, self.path, lambda done, total, _: self.report("Measuring", done, total)
        )

    def measure_files(self, choices: Sequence[Choice]) -> list[float]:
        """The divergence of whole files, measured where the table does not have it yet."""
        for done, choice in enumerate(choices):
            self.report("Measuring files", done, len(choices))
            if choice.key not in self.table.cells:
                found = self.bench.measure_file(choice.plan(self.bench.parts.imatrix))
                self.table = self.table.with_cell(choice.key, found)
                write_divergences(self.path, self.table)
        self.report("Measuring files", len(choices), len(choices))
        return [self.table.cells[choice.key].mean for choice in choices]


@contextmanager
def laboratory(
    source: Source, imatrix_path: Path | None, imatrix: Imatrix | None, path: Path, wish: Wish, report: Report
) -> Iterator[Laboratory]:
    """Open what measuring takes: the reference and its logits, the model in parts, an engine.

    Raises NemotronError, also where another run is at the same table or model.
    """
    from nemotron_gguf.convert.writer.lock import Lock
    from nemotron_gguf.quant.fit.alternative import Alternative
    from nemotron_gguf.quant.fit.variants import InParts
    from nemotron_gguf.quant.widths import paddable
    from nemotron_gguf.runner.measure.identity import text_of
    from nemotron_gguf.runner.measure.measurer import Measurer
    from nemotron_gguf.runner.measure.window import Window

    folder = (wish.folder or _cache()) / source.digest
    folder.mkdir(parents=True, exist_ok=True)
    base = GGMLType.F32 if source.plan.header.file_size <= MOST_F32 else GGMLType.Q8_0
    with (
        Lock(path),
        Lock(folder / "variants"),
        Measurer(Window(threads=wish.threads), verbose=console.settings.debug) as measurer,
    ):
        file = _reference_file(source, folder)
        material = _material(measurer, file, wish)
        text = text_of(material.chunks)
        reference = _reference(measurer, file, material, folder / f"{text}.logits", report)
        importance = digest_of(imatrix_path) or ""
        setting = Setting(source.name, source.digest, importance, text, 512, material.chunks.count)
        parts = InParts(Alternative(source.plan, paddable(source.plan, 256)), imatrix, base)
        bench = Bench(folder / (importance[:16] or "plain"), parts, measurer, reference)
        bench.prepare()
        yield Laboratory(bench, path, _table(path, setting), report)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("nemotron-gguf", appauthor=False) / "fit"


def _reference_file(source: Source, folder: Path) -> Path:
    """The unquantized file: the source itself, or the checkpoint converted."""
    from nemotron_gguf.convert import Output, WriteOptions, write_files

    if source.path is not None:
        return source.path
    path = folder / "reference.gguf"
    if not path.exists():
        write_files([Output(source.plan, path)], WriteOptions(source={"checkpoint": source.identity}))
    return path


def _material(measurer: Measurer, file: Path, wish: Wish) -> Material:
    from nemotron_gguf.runner import inspect_model
    from nemotron_gguf.runner.measure.reading import read_texts
    from nemotron_gguf.runner.measure.texts import Text, calibration_texts

    if not wish.text:
        return measurer.read(file, calibration_texts(inspect_model(file)), wish.chunks)
    texts = [
        Text(str(path), text, wish.parse_special) for path, text in zip(wish.text, read_texts(wish.text), strict=True)
    ]
    return measurer.read(file, texts, wish.chunks)


def _reference(measurer: Measurer, file: Path, material: Material, cache: Path, report: Report) -> Reference:
    def announce(n_bytes: int) -> None:
        size = console.size(n_bytes)
        console.note(f"the logits of {file.name} for {material.n_predicted} tokens go to {cache}: {size}")

    def heard(done: int, total: int) -> None:
        report("Reference", done, total)

    return measurer.reference(file, material, cache, announce=announce, report=heard)


def _table(path: Path, setting: Setting) -> Divergences:
    """The table that is there, if it is of the same; raises ModelError for another."""
    if not path.exists():
        return Divergences(setting)
    table = read_divergences(path)
    if table.setting != setting:
        other = next(name for name in Setting.__slots__ if getattr(table.setting, name) != getattr(setting, name))
        raise ModelError(
            f"{path} is of another {other} ({getattr(table.setting, other)!r}, expected {getattr(setting, other)!r});"
            " name another --table, or remove it"
        )
    return table
