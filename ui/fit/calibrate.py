"""A table of divergences is made: variants of a model are written, measured and removed again, one after the other.

Here the rooms meet: `quant` says what a variant consists of, `convert` writes it, `runner` measures it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nemotron_gguf.models.divergences import Divergence, Divergences, write_divergences
from nemotron_gguf.models.ggml import GGMLType

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.quant.classes import Cell
    from nemotron_gguf.quant.fit.agenda import Measurement
    from nemotron_gguf.quant.fit.variants import InParts
    from nemotron_gguf.runner.measure.evaluation import Reference
    from nemotron_gguf.runner.measure.measurer import Measurer

Report = Callable[[int, int, str], None]
"""Hears how many measurements are done, of how many, and which is under way."""

STEM = "variant"


@dataclass
class Bench:
    """Where variants are made and measured: a folder with the model in parts, an engine, and what to compare with."""

    folder: Path
    parts: InParts
    measurer: Measurer
    reference: Reference

    def prepare(self) -> None:
        """Write the parts that all variants share, those that are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write({self._base_path(number): self._base_plan(number) for number in range(self.parts.count)})

    def measure_file(self, plan: FilePlan) -> Divergence:
        """The divergence of a whole file, which is removed afterwards, whatever happens."""
        path = self.folder / f"whole-{plan.fingerprint[:16]}.gguf"
        try:
            self._write({path: plan})
            return self._divergence(path)
        finally:
            _remove(path)

    def measure(self, types: Mapping[Cell, GGMLType]) -> Divergence:
        """The divergence of the model with these types. Its own parts are removed afterwards, whatever happens."""
        changed = {cell: kind for cell, kind in types.items() if kind is not self.parts.type_of(cell, {})}
        own = {cell: self._own_path(cell, kind) for cell, kind in changed.items()}
        variant = self.folder / STEM
        try:
            self._write({own[cell]: self.parts.part(cell, kind) for cell, kind in changed.items()})
            return self._divergence(self._linked(variant, own))
        finally:
            shutil.rmtree(variant, ignore_errors=True)
            for path in own.values():
                _remove(path)

    def _divergence(self, path: Path) -> Divergence:
        found = self.measurer.evaluate(path, self.reference).divergence
        return Divergence(found.kl_mean.value, found.kl_mean.error or 0.0, found.n_tokens)

    def _base_plan(self, number: int) -> FilePlan:
        if number == 0:
            return self.parts.first()
        cell = self.parts.cells[number - 1]
        return self.parts.part(cell, self.parts.type_of(cell, {}))

    def _base_path(self, number: int) -> Path:
        name = "keys" if number == 0 else str(self.parts.cells[number - 1])
        return self.folder / f"base-{name}-{self._base_plan(number).fingerprint[:12]}.gguf"

    def _own_path(self, cell: Cell, kind: GGMLType) -> Path:
        return self.folder / f"own-{cell}-{kind.name}.gguf"

    def _write(self, plans: Mapping[Path, FilePlan]) -> None:
        from nemotron_gguf.convert import Output, WriteOptions, write_files

        outputs = [Output(plan, path) for path, plan in plans.items() if not path.exists()]
        if outputs:
            write_files(outputs, WriteOptions(verify=False))

    def _linked(self, variant: Path, own: Mapping[Cell, Path]) -> Path:
        """A folder in which the parts lie under the names of one split model; the first part's path."""
        from nemotron_gguf.models.gguf_parts import part_path

        shutil.rmtree(variant, ignore_errors=True)
        variant.mkdir()
        for number in range(self.parts.count):
            source = self._base_path(number)
            if number and self.parts.cells[number - 1] in own:
                source = own[self.parts.cells[number - 1]]
            _link(source, part_path(variant / "x", STEM, number + 1, self.parts.count))
        return part_path(variant / "x", STEM, 1, self.parts.count)


def calibrate(bench: Bench, plan: Sequence[Measurement], table: Divergences, path: Path, report: Report) -> Divergences:
    """Measure what the table lacks, and write it after every measurement."""
    for done, one in enumerate(plan):
        report(done, len(plan), one.key)
        if one.key not in table.cells:
            table = table.with_cell(one.key, bench.measure(one.types))
            write_divergences(path, table)
    report(len(plan), len(plan), "")
    return table


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _remove(path: Path) -> None:
    for file in (path, path.with_name(path.name + ".sha256")):
        with suppress(OSError):
            file.unlink(missing_ok=True)
