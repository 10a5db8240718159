"""The library: the folder where finished model files lie, and how they are called there.

`NEMOTRON_HOME`, or the place that the system has for the data of programs. A model is a GGUF file, or the parts of one
(`NAME-00001-of-00003.gguf`), called by its name without the ending; beside it may lie NAME.gguf.sha256 and, where it
was pulled, NAME.gguf.origin.json.
"""

from __future__ import annotations

import difflib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.gguf_parts import part_name

VARIABLE = "NEMOTRON_HOME"

_ORIGIN = ".origin.json"
_MAX_ORIGIN = 1 << 14  # bytes
_MAX_ASKED = 16


@dataclass(frozen=True, slots=True)
class Book:
    """A model of the library: its name, the file to open (of parts the first), the files in order, bytes in all.

    `problem` says why it cannot be used, None where nothing is known against it.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    size: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pulled model came from: `asked` is what stood after the colon, each time, `file` what that meant."""

    repo_id: str
    revision: str
    commit: str
    asked: tuple[str, ...]
    type: str
    file: str


def library() -> Path:
    """The library's folder, which may not exist yet."""
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("nemotron-gguf", appauthor=False)


def books(folder: Path | None = None) -> list[Book]:
    """The models of the library by their names; other files are passed over, headers are not read.

    Raises ModelError where the folder is there and cannot be read.
    """
    folder = folder or library()
    sets: defaultdict[tuple[str, int], dict[int, Path]] = defaultdict(dict)
    for path in _listing(folder):
        name, number, count = _place(path)
        sets[name, count][number] = path
    return sorted((_book(name, count, found) for (name, count), found in sets.items()), key=lambda book: book.name)


def find(name: str, folder: Path | None = None) -> Path:
    """The file that a name means: a path that exists, or a model of the library, with or without `.gguf`.

    Raises ModelError where it is neither, with the names that come nearest, and where it means more than one.
    """
    path = Path(name).expanduser()
    if _exists(path) or path.name != name or name in ("", ".", ".."):
        return path
    folder = folder or library()
    there = books(folder)
    found = [book for book in there if name in _called(book)]
    found = found or [book for book in there if name.lower() in map(str.lower, _called(book))]
    if not found:
        raise ModelError(
            f"there is no file {name!r}, and no model of that name in the library {folder}; {_near(name, there)}"
        )
    if len(found) > 1:
        names = ", ".join(book.path.name for book in found)
        raise ModelError(f"{name!r} means more than one model of the library {folder}: {names}; name the file")
    if found[0].problem:
        raise ModelError(f"{found[0].name} in the library {folder} cannot be used: {found[0].problem}")
    return found[0].path


def find_origin(repo_id: str, revision: str, asked: str, usual: str, folder: Path | None = None) -> Path | None:
    """A complete model of the library that was pulled from a repository as it is asked for now; None without one.

    `asked` is what stands after the colon; nothing means the `usual` type, or what it meant when it was pulled.
    """
    for book in books(folder):
        origin = _read_origin(book.path)
        if book.problem or origin is None:
            continue
        same = (origin.repo_id.lower(), origin.revision) == (repo_id.lower(), revision)
        called = {text.upper() for text in (origin.type, *origin.asked)} - ({""} - set(origin.asked))
        if same and (asked.upper() in called or (not asked and origin.type == usual)):
            return book.path
    return None


def write_origin(path: Path, origin: Origin) -> None:
    """Keep beside a model where it came from, with all that it was asked by. Raises ModelError where the disk fails."""
    before = _read_origin(path)
    if before is not None and replace(before, asked=(), commit="") == replace(origin, asked=(), commit=""):
        origin = replace(origin, asked=tuple(dict.fromkeys((*before.asked, *origin.asked)))[-_MAX_ASKED:])
    target = path.with_name(path.name + _ORIGIN)
    partial = target.with_name(target.name + ".new")
    try:
        partial.write_text(json.dumps(asdict(origin)) + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise ModelError(f"writing {target} failed: {error.strerror or error}") from error


def _read_origin(path: Path) -> Origin | None:
    """Where a model came from; None where that is not told, or not in a way that makes sense."""
    try:
        with path.with_name(path.name + _ORIGIN).open("rb") as file:
            value = json.loads(file.read(_MAX_ORIGIN))
        asked = value.pop("asked")
        origin = Origin(asked=tuple(asked), **value)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    texts = (*origin.asked, origin.repo_id, origin.revision, origin.commit, origin.type, origin.file)
    return origin if all(isinstance(text, str) for text in texts) else None


def _listing(folder: Path) -> Iterator[Path]:
    """The folder's GGUF files."""
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == ".gguf" and not path.name.startswith(".") and not path.is_dir():
                yield path
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelError(f"cannot read the library {folder}: {error.strerror or error}") from error


def _place(path: Path) -> tuple[str, int, int]:
    """A model's name, and of its parts the number and how many there are; 1 and 0 where it is one file."""
    part = part_name(path)
    return (part.stem, part.number, part.n_parts) if part else (path.name[: -len(".gguf")], 1, 0)


def _book(name: str, count: int, found: dict[int, Path]) -> Book:
    files = tuple(path for _, path in sorted(found.items()))
    missing = count - len(found)
    problem = f"{missing} of its {count} parts missing" if missing > 0 else None
    size = 0
    try:
        size = sum(path.stat().st_size for path in files)
    except OSError as error:
        problem = f"cannot read {error.filename}: {error.strerror or error}"
    return Book(name, files[0], files, size, problem)


def _called(book: Book) -> Iterable[str]:
    """All that a model may be called by."""
    return (book.name, f"{book.name}.gguf", *(path.name for path in book.files), *(path.stem for path in book.files))


def _near(name: str, there: list[Book]) -> str:
    """What might be meant."""
    names = {book.name.lower(): book.name for book in there}
    wanted = name.lower().removesuffix(".gguf")
    near = [names[low] for low in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)]
    near = near or [called for low, called in names.items() if wanted in low][:3]
    if near:
        return f"did you mean {' or '.join(near)}? `nemotron models` lists all"
    return (
        "`nemotron models` lists what there is"
        if there
        else "it is empty: `nemotron build` or `nemotron pull` fills it"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
