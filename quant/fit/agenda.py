"""What to measure of a model, the most telling first.

Every class as a whole in types far apart, between which the weights' errors lead; then the ends of the large classes
against their middle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from nemotron_gguf.models.ggml import GGMLType as T
from nemotron_gguf.quant.classes import CLASSES, EXPERTS, PARTS, Cell
from nemotron_gguf.quant.fit.choice import Choice, Problem
from nemotron_gguf.quant.fit.predict import BASE, key_of
from nemotron_gguf.quant.fit.types import SMALL

ANCHORS = (T.IQ4_XS, T.IQ3_S, T.IQ2_S, T.Q6_K, T.Q2_0)
WITHOUT_IMPORTANCE = (T.IQ4_XS, T.Q3_K, T.Q2_K, T.Q6_K, T.Q2_0)
OF_SMALL = (T.IQ4_XS, T.Q6_K)  # classes that have a floor
WEIGHTY = 0.05  # of a choice's divergence: what is predicted to be less need not be measured


@dataclass(frozen=True)
class Measurement:
    """A line of the table to be: its key, and the type of each cell that is changed."""

    key: str
    types: Mapping[Cell, T]


def agenda(shares: Mapping[Cell, float], *, has_imatrix: bool, depth: int = 3) -> list[Measurement]:
    """The measurements, in order. `shares` has each cell's part of the weights, 0 to 1.

    `depth`: in how many types a large class is measured. Classes below SMALL of the weights are measured in two.
    """
    names = [name for name in CLASSES if name != "other" and any(cell.name == name for cell in shares)]
    large = [name for name in names if name in EXPERTS or _share(shares, name) >= SMALL]
    small = [name for name in names if name not in large]
    anchors = (ANCHORS if has_imatrix else WITHOUT_IMPORTANCE)[:depth]
    found = [Measurement(BASE, {})]
    for kind in anchors:
        found += [_whole(shares, name, kind) for name in large]
    for kind in OF_SMALL[:depth]:
        found += [_whole(shares, name, kind) for name in small]
    for name in large:
        found += _ends(shares, name, anchors[1 % depth])
    return found


def unmeasured(choice: Choice, problem: Problem, measured: Collection[str]) -> list[Measurement]:
    """What a choice rests on and was not measured: its weighty classes in its types, as a whole where they have one."""
    found: dict[str, Measurement] = {}
    for name in dict.fromkeys(cell.name for cell in choice.types):
        kinds = {cell: kind for cell, kind in choice.types.items() if cell.name == name}
        is_one = len(set(kinds.values())) == 1
        for cell, kind in kinds.items():
            keys = [key_of(name, part, kind) for part in (None, cell.part)]
            is_light = problem.predicted(cell, kind) < WEIGHTY * choice.loss / len(kinds)
            if is_light or not kind.is_quantized or any(key in measured for key in keys):
                continue
            changed = dict.fromkeys(kinds, kind) if is_one else {cell: kind}
            key = keys[0] if is_one else keys[1]
            found[key] = Measurement(key, changed)
    return list(found.values())


def _share(shares: Mapping[Cell, float], name: str) -> float:
    return sum(share for cell, share in shares.items() if cell.name == name)


def _cells(shares: Iterable[Cell], name: str) -> list[Cell]:
    return [cell for cell in shares if cell.name == name]


def _whole(shares: Mapping[Cell, float], name: str, kind: T) -> Measurement:
    return Measurement(key_of(name, None, kind), dict.fromkeys(_cells(shares, name), kind))


def _ends(shares: Mapping[Cell, float], name: str, kind: T) -> Iterator[Measurement]:
    cells = [cell for part in PARTS for cell in _cells(shares, name) if cell.part == part]
    if len(cells) > 1:
        for cell in cells:
            yield Measurement(key_of(name, cell.part, kind), {cell: kind})
