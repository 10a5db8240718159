"""Tables of measurements: what a type costs in divergence for a class of tensors of one model, as a readable file.

One line of JSON each: first a head that says what was measured and how, then a line for every measurement. A run that
ends early leaves a whole table of what it measured, and the next goes on with it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nemotron_gguf.models.errors import ModelError, printable

FORMAT = "nemotron-gguf divergences"
VERSION = 1
MAX_BYTES = 16 << 20  # of a file that is believed to be a table


@dataclass(frozen=True, slots=True)
class Divergence:
    """Mean KL divergence in nats a token against the reference, its standard error, and over how many tokens."""

    mean: float
    error: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What a table's numbers hold for: the model and its importance, the text, how it was cut and read.

    `source`, `imatrix` and `text` are digests (empty: none); `name` is for people.
    """

    name: str
    source: str
    imatrix: str
    text: str
    ctx_size: int
    chunks: int


@dataclass(frozen=True)
class Divergences:
    """A table: `cells` by what was changed, such as `expert_up=IQ3_S`, several joined by a space in that order."""

    setting: Setting
    cells: Mapping[str, Divergence] = field(default_factory=dict)

    def with_cell(self, changed: str, found: Divergence) -> Divergences:
        """The table with one more measurement."""
        return Divergences(self.setting, {**self.cells, changed: found})


def read_divergences(path: str | Path) -> Divergences:
    """Read a table. Raises ModelError, naming the line, for what is none."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} has more than {MAX_BYTES} bytes, too many for a table of divergences")
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is no text, expected a table of divergences") from error
    if not lines:
        raise ModelError(f"{path} is empty, expected a table of divergences")
    setting = _setting(str(path), _object(str(path), 1, lines[0]))
    cells = dict(_cell(str(path), number, line) for number, line in enumerate(lines[1:], start=2) if line.strip())
    return Divergences(setting, cells)


def write_divergences(path: Path, table: Divergences) -> None:
    """Write a table under a temporary name and rename it, so that there is a whole one at any time."""
    head = {"format": FORMAT, "version": VERSION, **asdict(table.setting)}
    rows = [{"changed": changed, **asdict(found)} for changed, found in table.cells.items()]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (head, *rows))
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{name}: line {number} is no JSON object, expected a table of divergences; take the line out")
    return found


def _setting(name: str, head: Mapping[str, Any]) -> Setting:
    if head.get("format") != FORMAT or head.get("version") != VERSION:
        raise ModelError(
            f"{name}: the first line names the format {printable(str(head.get('format')))} in version"
            f" {printable(str(head.get('version')))}, expected {FORMAT} in version {VERSION}"
        )
    texts = {key: head.get(key) for key in ("name", "source", "imatrix", "text")}
    numbers = {key: head.get(key) for key in ("ctx_size", "chunks")}
    wrong = [key for key, value in texts.items() if not isinstance(value, str)]
    wrong += [key for key, value in numbers.items() if type(value) is not int or value < 1]
    if wrong:
        raise ModelError(f"{name}: line 1 has no sound {wrong[0]}; measure again")
    return Setting(**texts, **numbers)  # type: ignore[arg-type]


def _cell(name: str, number: int, line: str) -> tuple[str, Divergence]:
    row = _object(name, number, line)
    changed, tokens = row.get("changed"), row.get("tokens")
    mean, error = _number(row.get("mean")), _number(row.get("error"))
    is_whole = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0
    if not isinstance(changed, str) or not is_whole or mean is None or error is None or error < 0:
        raise ModelError(
            f"{name}: line {number} is no measurement, expected changed, mean, error and tokens such as"
            ' {"changed": "expert_up=IQ3_S", "mean": 0.01, "error": 0.0003, "tokens": 8192}'
        )
    assert isinstance(tokens, int)
    return changed, Divergence(mean, error, tokens)


def _number(value: object) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
