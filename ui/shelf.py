"""`nemotron models`, and what may stand in place of a file: a path, a name in the library, a repository of the Hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.convert.hub.pull import Asked
    from nemotron_gguf.models.gguf_reader import GGUFFile
    from nemotron_gguf.models.shelf import Book

FILE_HELP = "A file, a name from `nemotron models`, or a Hub repository of GGUF files: org/name[:TYPE]."


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command(name="models")(list_models)


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """List the models of the library: name, type, size, architecture.

    `build` and `pull` put them there; `chat`, `ui` and `inspect` take their names. The library is the folder that
    NEMOTRON_HOME names, or this system's place for the data of programs.

    Example: `nemotron models`
    """
    from nemotron_gguf.models.shelf import books, library

    folder = library()
    described = [_described(book) for book in books(folder)]
    if as_json:
        console.print_json({"folder": str(folder), "models": described})
        return
    width = max((len(str(row["name"])) for row in described), default=0)
    for row in described:
        size = console.size(int(str(row["bytes"])))
        about = row["problem"] or row["architecture"]
        console.say(f"{row['name']:{width}}  {row['type'] or '?':8}  {size:>8}  {about}")
    console.note(f"in {folder}" if described else f"{folder} is empty: `nemotron build` or `nemotron pull` fills it")
    for part in sorted(folder.glob("*.part")) if folder.is_dir() else ():
        console.note(f"unfinished: {part}; the command that began it goes on with it, or remove it")


def resolve(text: str) -> Path:
    """The file that is meant by a path, a name in the library, or a repository, which is pulled if it is not there.

    What is in the library needs no network. Raises NemotronError.
    """
    from nemotron_gguf.models.shelf import find, library

    asked = _asked(text)
    if asked is None:
        return find(text)
    found = _pulled(asked)
    if found is not None:
        return found
    from nemotron_gguf.convert.hub.pull import Goal
    from nemotron_gguf.ui.pull import bring

    return bring(asked, Goal(library(), ready=True)).files[0]


def pulled(text: str) -> Path | None:
    """The file of the library that was pulled from the repository that a text names; None where that is none."""
    asked = _asked(text)
    return None if asked is None else _pulled(asked)


def _pulled(asked: Asked) -> Path | None:
    from nemotron_gguf.convert.hub.gguf_choice import USUAL
    from nemotron_gguf.models.shelf import find_origin

    place = asked.place
    return find_origin(place.repo_id or "", place.revision or "", asked.kind or "", USUAL)


def look_at(text: str) -> GGUFFile | None:
    """The header of a repository's model, read over the network; None where it lies here already."""
    asked = _asked(text)
    if asked is None or _pulled(asked) is not None:
        return None
    from nemotron_gguf.convert.hub.pull import header_of

    return header_of(asked)


def hint(path: Path) -> None:
    """Say how to chat with a model of the library: by its name, or by its path where the name means another file."""
    from nemotron_gguf.models.gguf_parts import part_name
    from nemotron_gguf.models.shelf import find

    part = part_name(path)
    name = part.stem if part else path.name.removesuffix(".gguf")
    try:
        shown = name if find(name).parent == path.parent else str(path)
    except NemotronError:
        shown = str(path)
    console.note(f"talk with it: nemotron chat {shlex.quote(shown)}")


def _asked(text: str) -> Asked | None:
    """The repository that a text names; None where it means a file, be it one that is not there."""
    from nemotron_gguf.convert.errors import ConvertError
    from nemotron_gguf.convert.hub.pull import parse_asked

    try:
        if Path(text).exists() or (text.lower().endswith(".gguf") and ":" not in text):
            return None
        if "gguf" not in text.lower() and ":" not in text and Path(text).parent.is_dir():
            return None
        return parse_asked(text)
    except (ConvertError, OSError, ValueError):
        return None


def _described(book: Book) -> dict[str, object]:
    """A model for `--json`; what could not be found out is null."""
    from nemotron_gguf.models.gguf_reader import read_gguf
    from nemotron_gguf.ui.describe import printable

    kind, architecture, problem = None, None, book.problem
    try:
        file = read_gguf(book.path)
        kind, architecture = _type(file), printable(file.architecture) or None
    except NemotronError as error:
        problem = problem or str(error)
    return {
        "name": printable(book.name),
        "type": kind,
        "bytes": book.size,
        "architecture": architecture,
        "path": str(book.path),
        "files": [str(path) for path in book.files],
        "problem": printable(problem) if problem else None,
    }


def _type(file: GGUFFile) -> str | None:
    """The name of a file's type, by its number."""
    from nemotron_gguf.quant import FILE_TYPES

    number = file.get("general.file_type")
    return next((kind.name for kind in FILE_TYPES if kind.number == number), None)
