"""Recipes as files: which class of tensors has which type, which widths are changed, and where that comes from (TOML).

    name = "Nano-16GiB"
    base = "IQ3_S"                       # the file type that llama.cpp is told, and the type of what no class names
    pad = ["hidden"]
    trim = ["expert", "shared"]

    [types]
    expert_up = "IQ3_XXS"
    expert_down = { first = "IQ4_XS", middle = "IQ3_S", last = "IQ3_S" }

    [tensors]                            # expressions that are searched in names; they overrule the classes
    'blk\\.51\\.' = "Q8_0"

    [importance]
    name = "nano.imatrix.gguf"

    [about]
    predicted_divergence = 0.021

`importance` and `about` inform and change nothing. One type in place of three holds for the whole class.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemotron_gguf.models.errors import printable
from nemotron_gguf.models.ggml import GGMLType
from nemotron_gguf.quant.classes import CLASSES, PARTS, Cell, Part, cells_of
from nemotron_gguf.quant.errors import QuantError
from nemotron_gguf.quant.file_types import FileType, file_type
from nemotron_gguf.quant.options import TensorType, parse_tensor_type, tensor_type

WIDTHS = ("hidden", "expert", "shared", "latent", "mlp")
MAX_BYTES = 1 << 20
Fact = str | int | float


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says. `types` has a type for each cell that it names; `tensors` are texts REGEX=TYPE."""

    name: str
    base: FileType
    types: Mapping[Cell, GGMLType]
    tensors: tuple[str, ...] = ()
    pad: tuple[str, ...] = ()
    trim: tuple[str, ...] = ()
    importance: Mapping[str, Fact] = field(default_factory=dict)
    about: Mapping[str, Fact] = field(default_factory=dict)

    def tensor_types(self, names: Iterable[str]) -> tuple[TensorType, ...]:
        """The recipe as patterns of names and their types, for a model whose tensors that may be quantized these are.

        Raises QuantError for a class that the model does not have.
        """
        cells = cells_of(names)
        missing = {cell.name for cell in self.types} - {cell.name for cell in cells}
        if missing:
            raise QuantError(
                f"the recipe {self.name} gives a type to {', '.join(sorted(missing))}, which the model does not have;"
                f" it has {', '.join(dict.fromkeys(cell.name for cell in cells))}"
            )
        found = [parse_tensor_type(text) for text in self.tensors]
        for cell, members in cells.items():
            if cell in self.types:
                pattern = "|".join(map(re.escape, members))
                found.append((re.compile(f"^(?:{pattern})$", re.ASCII), self.types[cell]))
        return tuple(found)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe file. Raises QuantError for what is none, naming the key."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise QuantError(f"{path} has more than {MAX_BYTES} bytes, too many for a recipe")
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise QuantError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QuantError(f"{path} is no recipe, expected TOML: {printable(str(error))}") from error
    try:
        return _recipe(found, file.stem)
    except QuantError as error:
        raise QuantError(f"{path}: {error}") from error


def _recipe(found: Mapping[str, Any], name: str) -> Recipe:
    known = ("name", "base", "pad", "trim", "types", "tensors", "importance", "about")
    if unknown := [key for key in found if key not in known]:
        raise QuantError(f"{printable(unknown[0])!r} is no key of a recipe, expected {', '.join(known)}")
    base = file_type(_text(found, "base"))
    if not base.base.is_quantized:
        raise QuantError(f"base is {base.name}, expected a file type that quantizes, such as Q8_0")
    return Recipe(
        name=_text(found, "name") if "name" in found else name,
        base=base,
        types=dict(_cells(_table(found, "types"))),
        tensors=tuple(_pattern(pattern, kind) for pattern, kind in _table(found, "tensors").items()),
        pad=_widths(found, "pad"),
        trim=_widths(found, "trim"),
        importance=_facts(found, "importance"),
        about=_facts(found, "about"),
    )


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise QuantError(f"{key} is {printable(str(value))}, expected a text")
    return value


def _table(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key, {})
    if not isinstance(value, dict):
        raise QuantError(f"{key} is {printable(str(value))}, expected a table [{key}]")
    return value


def _cells(types: Mapping[str, Any]) -> Iterable[tuple[Cell, GGMLType]]:
    """The type of every cell; a class with one type has it in all its parts."""
    for name, value in types.items():
        if name not in CLASSES:
            raise QuantError(f"{printable(name)!r} is no class of tensors, expected one of {', '.join(CLASSES)}")
        parts = value if isinstance(value, dict) else dict.fromkeys(PARTS, value)
        for part, kind in parts.items():
            if part not in PARTS:
                raise QuantError(f"{name} has the part {printable(part)!r}, expected {', '.join(PARTS)}")
            yield Cell(name, _part(part)), _type(name, kind)


def _part(text: str) -> Part:
    return next(part for part in PARTS if part == text)


def _type(where: str, value: object) -> GGMLType:
    if not isinstance(value, str):
        raise QuantError(f"{printable(where)} is {printable(str(value))}, expected the name of a type, such as Q6_K")
    return tensor_type(value)


def _pattern(pattern: str, kind: object) -> str:
    text = f"{pattern}={_type(pattern, kind).name}"
    parse_tensor_type(text)
    return text


def _widths(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = found.get(key, [])
    if not isinstance(value, list) or any(width not in WIDTHS for width in value):
        raise QuantError(f"{key} is {printable(str(value))}, expected a list of {', '.join(WIDTHS)}")
    return tuple(width for width in WIDTHS if width in value)


def _facts(found: Mapping[str, Any], key: str) -> dict[str, Fact]:
    facts = _table(found, key)
    for name, value in facts.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise QuantError(f"{key}.{printable(name)} is {printable(str(value))}, expected a text or a number")
    return dict(facts)


def recipe_text(recipe: Recipe) -> str:
    """A recipe as TOML, which `read_recipe` reads as the same recipe."""
    lines = [f"name = {_quoted(recipe.name)}", f"base = {_quoted(recipe.base.name)}"]
    lines += [f"{key} = [{', '.join(map(_quoted, getattr(recipe, key)))}]" for key in ("pad", "trim")]
    lines += ["", "[types]", *(f"{name} = {_types(recipe, name)}" for name in _named(recipe))]
    if recipe.tensors:
        pairs = (text.rpartition("=") for text in recipe.tensors)
        lines += ["", "[tensors]", *(f"{_quoted(pattern)} = {_quoted(kind)}" for pattern, _, kind in pairs)]
    for key in ("importance", "about"):
        if facts := getattr(recipe, key):
            lines += ["", f"[{key}]", *(f"{_key(name)} = {_fact(value)}" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def _named(recipe: Recipe) -> list[str]:
    return [name for name in CLASSES if any(cell.name == name for cell in recipe.types)]


def _types(recipe: Recipe, name: str) -> str:
    """One type for the whole class, or those of its parts."""
    parts = {part: recipe.types[Cell(name, part)] for part in PARTS if Cell(name, part) in recipe.types}
    if len(parts) == len(PARTS) and len(set(parts.values())) == 1:
        return _quoted(parts["middle"].name)
    return "{ " + ", ".join(f"{part} = {_quoted(kind.name)}" for part, kind in parts.items()) + " }"


def _fact(value: Fact) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text, re.ASCII) else _quoted(text)


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
