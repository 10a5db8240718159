"""Groups of options that several verbs share: a verb takes a group as one value, the command line sees each option."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import typer

Verb = TypeVar("Verb", bound=Callable[..., Any])


def with_groups(verb: Verb) -> Verb:
    """Let every parameter that is a dataclass of options appear as those options, and arrive as the dataclass.

    A group's fields are annotated as typer's parameters are, and have defaults.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(verb).parameters.items()
        if name not in groups
    ]
    parameters = own + [option for group in groups.values() for option in _options(group)]

    @wraps(verb)
    def called(**given: Any) -> Any:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return verb(**given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called  # type: ignore[return-value]


def option(panel: str, text: str, metavar: str = "N", **more: Any) -> Any:
    """An option under the heading `panel` whose default stands in its text, if anywhere."""
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel, show_default=False, **more)


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]
