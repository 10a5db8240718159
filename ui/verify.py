"""`nemotron verify`: whether files are whole: their structure, their numbers, their checksums, all parts of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from nemotron_gguf.models.errors import NemotronError
from nemotron_gguf.ui import console

if TYPE_CHECKING:
    from nemotron_gguf.convert.plan import Rows
    from nemotron_gguf.models.ggml import GGMLType
    from nemotron_gguf.models.gguf_reader import GGUFFile, TensorInfo

    IsFinite: TypeAlias = Callable[[Rows, GGMLType], bool]

SHOWN = 3  # names of missing parts that are shown


@dataclass
class Checked:
    """What was found of one file. `checksum` is matches, differs, missing, written or unreadable."""

    path: Path
    file: GGUFFile | None = None
    sha256: str | None = None
    checksum: str | None = None
    problems: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, object]:
        """The file for `--json`; what could not be found out is null."""
        return {
            "path": str(self.path),
            "sound": not self.problems,
            "bytes": self.file.file_size if self.file else None,
            "sha256": self.sha256,
            "checksum": self.checksum,
            "problems": self.problems,
        }


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(verify)


def verify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.gguf",
            help="Files, names of the library, or org/name[:TYPE] that was pulled; of a model in parts, any one.",
        ),
    ],
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Write FILE.gguf.sha256 for sound files that have none.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Check that GGUF files are whole: structure, every number, all parts of a model, and the checksum beside each.

    Each file is read once, from the disk. FILE.gguf.sha256 is what `build` and `convert` write, and `sha256sum -c`
    reads it too. Without it, structure and numbers are checked, which does not find every flipped bit. Exit status: 0
    all sound, 1 something is damaged or missing.

    Example: `nemotron verify nano-Q4_K_M.gguf`
    """
    found = [checked for parts in _sets(_meant(files)) for checked in _structure(parts)]
    is_finite = _numbers_checker()
    with _bar(sum(checked.file.file_size for checked in found if checked.file), quiet=as_json) as advance:
        for checked in found:
            if checked.file:
                _contents(checked, checked.file, is_finite, checksums, advance)
    bad = sum(bool(checked.problems) for checked in found)
    if as_json:
        described = [checked.describe() for checked in found]
        console.print_json({"sound": not bad, "numbers_checked": is_finite is not None, "files": described})
    else:
        for checked in found:
            _say(checked, "structure and numbers" if is_finite else "structure")
    if bad:
        console.error(f"{bad} of {len(found)} files failed; download or build again what is damaged or missing")
        raise typer.Exit(1)


def _meant(files: Sequence[str]) -> list[Path]:
    """The files of paths, of names in the library and of repositories; a checksum stands for its file."""
    return list(dict.fromkeys(_found(text.removesuffix(".sha256")) for text in files))


def _found(text: str) -> Path:
    """The file that is there, or in the library; the path itself where there is none, for the report to say."""
    from nemotron_gguf.models.shelf import find
    from nemotron_gguf.ui.shelf import pulled

    path = Path(text)
    if path.exists():
        return path
    try:
        return find(text) if len(path.parts) == 1 and ":" not in text else pulled(text) or path
    except NemotronError:
        return path


def _sets(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files that belong together, each set once: all parts where one is given."""
    from nemotron_gguf.models.gguf_parts import part_paths

    return list(dict.fromkeys(tuple(part_paths(path)) for path in files))


def _structure(paths: Sequence[Path]) -> list[Checked]:
    """What the headers say of one file, or of all parts of a model, without those that are not there."""
    missing = dict.fromkeys(path for path in paths[1:] if not path.exists())
    found = [_header(path, no, len(paths)) for no, path in enumerate(paths) if path not in missing]
    if missing:
        names = ", ".join(path.name for path in list(missing)[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        found[0].problems.append(f"{len(missing)} of its {len(paths)} parts missing: {names}")
    elif len(paths) > 1:
        _together(found)
    return found


def _header(path: Path, no: int, count: int) -> Checked:
    """One file's header, and whether it is part `no` (from 0) of `count`, as its name says."""
    from nemotron_gguf.models.gguf_parts import SPLIT_COUNT, SPLIT_NO
    from nemotron_gguf.models.gguf_reader import read_gguf
    from nemotron_gguf.models.gguf_values import Value, ValueType

    checked = Checked(path)
    try:
        file = checked.file = read_gguf(path)
    except NemotronError as error:
        checked.problems.append(str(error))
        return checked
    for key, expected in ((SPLIT_NO, no), (SPLIT_COUNT, count)):
        value = file.metadata.get(key)
        alone = count == 1 and (value is None or value.plain() == 0)  # a merged file counts 0 parts
        if not alone and value != Value(ValueType.UINT16, expected):
            found = "missing" if value is None else f"{_brief(value.plain())} ({value.type.name.lower()})"
            checked.problems.append(f"{key} is {found}, expected {expected} (uint16) by its name")
    return checked


def _together(parts: Sequence[Checked]) -> None:
    """Whether parts hold all tensors that they say there are, each once."""
    from nemotron_gguf.models.gguf_parts import SPLIT_TENSORS

    files = [part.file for part in parts if part.file]
    if len(files) < len(parts):
        return  # nothing can be said of the tensors of a part that is damaged
    names = [tensor.name for file in files for tensor in file.tensors]
    for part, file in zip(parts, files, strict=True):
        if file.get(SPLIT_TENSORS) != len(names):
            part.problems.append(f"{SPLIT_TENSORS} is {_brief(file.get(SPLIT_TENSORS))}, the parts have {len(names)}")
    twice = len(names) - len(set(names))
    if twice:
        parts[0].problems.append(f"tensors in more than one part: {twice}")


def _brief(value: object) -> str:
    """A value from a file that may be hostile."""
    return ascii(value)[:40]


def _contents(
    checked: Checked, file: GGUFFile, is_finite: IsFinite | None, write: bool, advance: Callable[[int], None]
) -> None:
    """Read a file with a sound header once: its numbers, and its checksum against the one beside it."""
    from nemotron_gguf.convert.writer.digest import read_sidecar, sidecar_path, write_sidecar
    from nemotron_gguf.ui.describe import printable

    try:
        checked.sha256, broken = _read(file, is_finite, advance)
        checked.problems += [f"tensor {printable(name)} holds a NaN or an infinity" for name in broken]
        if sidecar_path(checked.path).exists():
            checked.checksum = "unreadable"
            expected = read_sidecar(checked.path)
            checked.checksum = "matches" if checked.sha256 == expected else "differs"
        elif write and not checked.problems:
            write_sidecar(checked.path, checked.sha256)
            checked.checksum = "written"
        else:
            checked.checksum = "missing"
    except NemotronError as error:
        checked.problems.append(str(error))
    if checked.checksum == "differs":
        checked.problems.append(
            f"its SHA-256 is {checked.sha256}, expected {expected}: the file was damaged or changed"
        )


def _read(file: GGUFFile, is_finite: IsFinite | None, advance: Callable[[int], None]) -> tuple[str, dict[str, None]]:
    """SHA-256 of a file, and the names of tensors that hold a number which is none."""
    import numpy as np

    from nemotron_gguf.convert.writer.digest import read_pieces

    digest, broken = hashlib.sha256(), dict[str, None]()
    spans = list(_spans(file))
    with ThreadPoolExecutor(1, thread_name_prefix="sha256") as pool:
        pieces = read_pieces(file.path, (size for size, _ in spans))
        for (_, tensor), (piece, _) in zip(spans, pieces, strict=True):
            hashed = pool.submit(digest.update, piece)
            if tensor and is_finite and tensor.name not in broken:
                rows = np.frombuffer(piece, dtype=np.uint8)
                if not is_finite(rows, tensor.type):
                    broken[tensor.name] = None
            hashed.result()  # the next piece comes into the same memory
            advance(len(piece))
    return digest.hexdigest(), broken


def _spans(file: GGUFFile) -> Iterator[tuple[int, TensorInfo | None]]:
    """The file from its beginning to its end, in sizes that hold whole blocks of one tensor, or no weights at all."""
    from nemotron_gguf.convert.writer.digest import cut

    at = 0
    for tensor in file.tensors:
        yield from ((size, None) for size in cut(tensor.offset - at))
        yield from ((size, tensor) for size in cut(tensor.nbytes, tensor.type.type_size))
        at = tensor.offset + tensor.nbytes
    yield from ((size, None) for size in cut(file.file_size - at))


def _numbers_checker() -> IsFinite | None:
    """What looks for numbers that are none; None, with a note, where there is no ggml to do it."""
    from nemotron_gguf.quant.encode import is_finite
    from nemotron_gguf.quant.ggml_base import library

    try:
        library()
    except NemotronError as error:
        console.note(f"the numbers are not checked: {error}")
        return None
    return is_finite


@contextmanager
def _bar(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes read, with their rate and the time left, on a terminal; yields what counts them."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    terminal = console.stderr()
    columns = ("Verifying", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, disable=quiet or not terminal.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _say(checked: Checked, looked_at: str) -> None:
    for problem in checked.problems:
        console.say(f"{checked.path}  FAILED: {problem}")
    if checked.file and not checked.problems:
        console.say(f"{checked.path}  {console.size(checked.file.file_size)}  {_verdict(checked, looked_at)}")


def _verdict(checked: Checked, looked_at: str) -> str:
    from nemotron_gguf.convert.writer.digest import sidecar_path

    sidecar = sidecar_path(checked.path).name
    if checked.checksum == "matches":
        return "sound"
    if checked.checksum == "written":
        return f"sound by its {looked_at}; {sidecar} written"
    return f"sound by its {looked_at} alone; --checksums writes {sidecar} for the next time"
