"""A file's text, whatever kind of file it is."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nemotron_gguf.ui import console
from nemotron_gguf.ui.attachments.attachment import Attachment, Kind
from nemotron_gguf.ui.attachments.documents import kind_of_document, read_document
from nemotron_gguf.ui.attachments.encoding import decode
from nemotron_gguf.ui.attachments.errors import AttachmentError

LARGEST = 16 << 20  # bytes; more than any context holds
LARGEST_DOCUMENT = 64 << 20  # bytes; pictures in it are many
_SNIFFED = 64 << 10  # characters by which a table's delimiter is told

_TABLES = {".csv", ".tsv"}
_MARKDOWN = {".md", ".markdown", ".mdx", ".qmd"}
_PLAIN = {"", ".txt", ".text", ".log", ".rst", ".tex", ".srt", ".vtt", ".eml"}


def read(path: str | Path) -> Attachment:
    """A file as text. Raises AttachmentError for what is missing, too large, damaged, encrypted or no text."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return read_open(file, Path(path))
    except IsADirectoryError as error:
        raise AttachmentError(f"{path} is a folder; give the files in it that matter") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AttachmentError(f"{path} cannot be read: {why}") from error


def read_open(file: IO[bytes], path: Path) -> Attachment:
    """The same of a file that is open already; the path only names it. Raises AttachmentError, and OSError."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise AttachmentError(f"{path} is no regular file; give a text, PDF or DOCX file")
    kind = kind_of_document(file, path, status.st_size)
    _check_size(path, status.st_size, LARGEST_DOCUMENT if kind else LARGEST)
    return read_document(file, kind, path.name) if kind else _read_text(file, path)


def _check_size(path: str | Path, size: int, most: int) -> None:
    if size > most:
        shown = console.size(size), console.size(most)
        raise AttachmentError(f"{path} has {shown[0]}, at most {shown[1]} can be attached; give a part of it")


def _read_text(file: IO[bytes], path: Path) -> Attachment:
    text, encoding = decode(file.read(LARGEST + 1), path.name)
    kind = _kind_of_text(path)
    notes = [f"read as {encoding}"] if encoding else []
    if kind == "csv":
        notes[:0] = _table(text)
    return Attachment(path.name, kind, text, ", ".join(notes))


def _kind_of_text(path: Path) -> Kind:
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return "csv"
    if suffix in _MARKDOWN:
        return "markdown"
    return "text" if suffix in _PLAIN else "code"


def _table(text: str) -> Iterator[str]:
    """How many rows and columns a table has; nothing where it is none."""
    try:
        delimiter = csv.Sniffer().sniff(text[:_SNIFFED].rpartition("\n")[0] or text[:_SNIFFED], ",;\t|").delimiter
    except csv.Error:
        delimiter = ","
    n_rows = n_columns = 0
    try:
        for row in csv.reader(text.splitlines(), delimiter=delimiter):
            n_rows, n_columns = n_rows + bool(row), max(n_columns, len(row))
    except csv.Error:
        return
    if n_rows:
        rows, columns = "row" if n_rows == 1 else "rows", "column" if n_columns == 1 else "columns"
        yield f"{n_rows:,} {rows}, {n_columns:,} {columns}"
