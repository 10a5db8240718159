"""From a few measurements to the divergence of every class in every type.

What was measured stands. Between two measured types of a class the divergence follows the squared error of the weights,
and so it does beyond them. Parts of a class share
its divergence as they were measured to, else by what the weights' errors and the number of layers say. A class of which
nothing was measured has the family's sensitivity, scaled to the measured classes of this model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, log

from nemotron_gguf.models.divergences import Divergence
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.classes import PARTS, Cell
from nemotron_gguf.quant.fit.types import ERRORS

LEAST = 1e-9  # nats: below it a measurement is its own noise
LEFT = 0.02  # of the divergence of the smallest error measured, at none
BASE = "base"  # the measurement of the file that nothing was changed in, as far as it differs from the reference

# Divergence of a class for a unit of its weights' relative squared error, with importance: geometric means over the
# demo model and the second model of bench/ (`python bench/fit_defaults.py sensitivities`). Classes that these lack have
# those of their nearest relatives: a dense MLP is always used, as the shared expert and the routed ones are together.
SENSITIVITY = {
    "expert_up": 0.30,
    "expert_down": 0.44,
    "shared_up": 0.23,
    "shared_down": 0.30,
    "mamba_in": 2.03,
    "mamba_out": 1.89,
    "attention_q": 0.11,
    "attention_k": 0.11,
    "attention_v": 0.16,
    "attention_output": 0.23,
    "dense_up": 0.53,
    "dense_down": 0.74,
    "latent": 0.44,
    "embedding": 2.30,
    "output": 1.42,
    "other": 0.44,
}


def key_of(name: str, part: str | None, kind: GGMLType) -> str:
    """How a table names the measurement of a class, or of one part of it, in a type: `expert_up.first=IQ3_S`."""
    return f"{name}.{part}={kind.name}" if part else f"{name}={kind.name}"


@dataclass(frozen=True)
class Prediction:
    """What is known of a model.

    `errors`: the sampled errors of its cells, `layers`: how many tensors each cell has, `measured`: a table's cells.
    """

    errors: Mapping[tuple[Cell, GGMLType], float]
    layers: Mapping[Cell, int]
    measured: Mapping[str, Divergence]

    def of(self, cell: Cell, kind: GGMLType) -> float:
        """Divergence in nats a token if this cell alone has that type."""
        direct = self._measured(cell.name, cell.part, kind)
        if direct is not None:
            return direct
        parts = self._parts(cell.name)
        if len(parts) == 1:
            return self._of_class(cell.name, kind)
        anchors = self._anchors(cell.name, cell.part)
        if len(anchors) > 1:
            return _along(anchors, self._error(cell, kind))
        return self._of_class(cell.name, kind) * self._share(cell)

    def of_trimming(self, widths: Sequence[str], error: float | None) -> float:
        """Divergence if the neurons of these widths are trimmed, `error` being the share of output energy that is lost.

        As it was measured (`trim=expert`); else as if the matrices that read the neurons had that error.
        """
        readers = {"expert": "expert_down", "shared": "shared_down", "mlp": "dense_down"}
        lost = 0.0
        for width in widths:
            found = self.measured.get(f"trim={width}")
            name = readers[width]
            if found is not None:
                lost += max(found.mean - (self.measured[BASE].mean if BASE in self.measured else 0.0), LEAST)
            elif error:
                anchors = self._anchors(name, None)
                lost += _along(anchors, error) if anchors else SENSITIVITY[name] * error * self._scale
        return lost

    def is_measured(self, cell: Cell, kind: GGMLType) -> bool:
        """Whether that very choice was measured, for the cell or for its class as a whole."""
        return any(key_of(cell.name, part, kind) in self.measured for part in (None, cell.part))

    def _parts(self, name: str) -> list[Cell]:
        return [cell for part in PARTS if (cell := Cell(name, part)) in self.layers]

    def _error(self, cell: Cell, kind: GGMLType) -> float:
        """The sampled error; where there is none, that of normal weights."""
        return max(self.errors.get((cell, kind), ERRORS[kind]), 1e-12)

    def _class_error(self, name: str, kind: GGMLType) -> float:
        parts = self._parts(name)
        total = sum(self.layers[cell] for cell in parts)
        return sum(self._error(cell, kind) * self.layers[cell] for cell in parts) / total

    def anchors(self, name: str) -> list[tuple[float, float]]:
        """(error, divergence) of each type in which a class was measured as a whole."""
        return self._anchors(name, None)

    def _anchors(self, name: str, part: str | None) -> list[tuple[float, float]]:
        """(error, divergence) of each measured type, in the order of the errors."""
        found = []
        for kind in self._kinds.get((name, part), ()):
            measured = self._measured(name, part, kind)
            assert measured is not None
            error = self._class_error(name, kind) if part is None else self._error(_cell(name, part), kind)
            found.append((error, measured))
        return sorted(found)

    @cached_property
    def _kinds(self) -> dict[tuple[str, str | None], list[GGMLType]]:
        """The types that were measured of each class and of each part of one."""
        names = dict.fromkeys(cell.name for cell in self.layers)
        pairs = ((name, part) for name in names for part in (None, *PARTS))
        return {pair: [kind for kind in ERRORS if key_of(*pair, kind) in self.measured] for pair in pairs}

    def _measured(self, name: str, part: str | None, kind: GGMLType) -> float | None:
        """What was measured of a class or a part of it, less what the file had before anything was changed."""
        found = self.measured.get(key_of(name, part, kind))
        if found is None:
            return None
        return max(found.mean - (self.measured[BASE].mean if BASE in self.measured else 0.0), LEAST)

    def _of_class(self, name: str, kind: GGMLType) -> float:
        direct = self._measured(name, None, kind)
        if direct is not None:
            return direct
        error = self._class_error(name, kind)
        anchors = self._anchors(name, None)
        return _along(anchors, error) if anchors else SENSITIVITY[name] * error * self._scale

    @cached_property
    def _scale(self) -> float:
        """How much more sensitive this model is than the family, by what was measured of it; a geometric mean."""
        ratios = []
        for name in dict.fromkeys(cell.name for cell in self.layers):
            ratios += [log(found / (error * SENSITIVITY[name])) for error, found in self._anchors(name, None)]
        return exp(sum(ratios) / len(ratios)) if ratios else 1.0

    def _share(self, cell: Cell) -> float:
        """This part's share of its class's divergence."""
        parts = self._parts(cell.name)
        together = [kind for kind in ERRORS if all(key_of(c.name, c.part, kind) in self.measured for c in parts)]
        found = {c: float(self.layers[c]) for c in parts}
        if together:
            found = {c: self._measured(c.name, c.part, together[0]) or LEAST for c in parts}
        return found[cell] / sum(found.values())


def _cell(name: str, part: str) -> Cell:
    return next(Cell(name, known) for known in PARTS if known == part)


def _along(anchors: Sequence[tuple[float, float]], error: float) -> float:
    """The divergence at an error, from measured ones in the order of their errors: on straight lines between them.

    Below the least one it falls with the error, but not below a part of it, since quantized weights meet activations of
    eight bits whatever their own type; beyond the last it goes on along its line, or in proportion where there is none.
    """
    errors = [at for at, _ in anchors]
    place = bisect_left(errors, error)
    if place == 0:
        at, found = anchors[0]
        return found * max(error / at, LEFT)
    if place == len(anchors):
        at, found = anchors[-1]
        before, lower = anchors[-2] if len(anchors) > 1 else (0.0, 0.0)
        slope = (found - lower) / (at - before) if at > before else found / at
        return found + max(slope, 0.0) * (error - at)
    (low, below), (high, above) = anchors[place - 1], anchors[place]
    part = (error - low) / (high - low)
    return (1 - part) * below + part * above
