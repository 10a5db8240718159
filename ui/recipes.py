"""The files that `quantize` and `build` are asked for, by `--type` and by `--recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nemotron_gguf.ui.quantizing import quantize_options, trimming

if TYPE_CHECKING:
    from nemotron_gguf.convert import FilePlan
    from nemotron_gguf.quant import QuantizeOptions
    from nemotron_gguf.quant.recipe_file import Recipe


@dataclass(frozen=True)
class Asked:
    """A file: what it is called after, and its options as far as they are known before the model is."""

    name: str
    options: QuantizeOptions
    recipe: Recipe | None = None


def asked_for(types: Sequence[str], recipes: Sequence[Path], chosen: Mapping[str, Any]) -> list[Asked]:
    """The files of a verb, `chosen` being its arguments. Raises BadParameter for none, and for a name twice.

    A recipe says itself which widths change, so `--pad` and `--trim` are for types alone.
    """
    from nemotron_gguf.quant.recipe_file import read_recipe

    found = [Asked(options.type.name, options) for options in (quantize_options(name, chosen) for name in types)]
    for path in recipes:
        recipe = read_recipe(path)
        if recipe.trim and not (chosen["imatrix"] or chosen["dry_run"]):
            raise typer.BadParameter(f"{path} trims, which needs an --imatrix", param_hint="--recipe")
        options = quantize_options(recipe.base.name, {**chosen, "pad": "none", "trim": False})
        found.append(Asked(recipe.name, options, recipe))
    if not found:
        raise typer.BadParameter("say which file: --type Q4_K_M, or --recipe FILE", param_hint="--type")
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise typer.BadParameter("a type or a recipe is given twice", param_hint="--type")
    return found


def settled(asked: Sequence[Asked], plan: FilePlan, chosen: Mapping[str, Any]) -> list[QuantizeOptions]:
    """The options of each file, now that the model is known: a recipe's tensors by name, the neurons to keep.

    Raises QuantError for a recipe that is of another model.
    """
    trims = any(one.recipe.trim if one.recipe else chosen["trim"] for one in asked)
    trim = trimming(plan, asked[0].options, chosen) if trims else None
    found = []
    for one in asked:
        if one.recipe is not None:
            found.append(_by_recipe(one.recipe, one.options, plan, trim))
        else:
            found.append(replace(one.options, trim=trim) if chosen["trim"] else one.options)
    return found


def _by_recipe(recipe: Recipe, options: QuantizeOptions, plan: FilePlan, trim: Any) -> QuantizeOptions:
    """The recipe's types behind those that `--tensor-type` names, and its widths."""
    from nemotron_gguf.models.widths import Dimension
    from nemotron_gguf.quant.fit.alternative import Alternative

    names = [name for members in Alternative(plan).cells.values() for name in members]
    less = frozenset(Dimension(name) for name in recipe.trim)
    return replace(
        options,
        tensor_types=(*options.tensor_types, *recipe.tensor_types(names)),
        pad=frozenset(Dimension(name) for name in recipe.pad),
        trim=replace(trim, dimensions=less) if less else None,
    )
