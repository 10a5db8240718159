"""The process that reads one PDF or DOCX from stdin and writes its text to stdout, as an object in JSON.

    python -m nemotron_gguf.ui.attachments.extracting pdf < FILE

It says {"text", "note"}, or {"error"}: the rest of a sentence that begins with the file's name.
"""

from __future__ import annotations

import json
import logging
import sys
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from nemotron_gguf.ui.attachments.documents import LONGEST

MEMORY = 2 << 30  # bytes of address space
PAGES = 3000
UNPACKED = 256 << 20  # bytes that the parts of a DOCX may have together, as its table of contents says
PARTS = 10_000

_ENCRYPTED = "is encrypted; save it without a password and attach that"


class _RefusedError(Exception):
    """Why a document gives no text."""


def main() -> None:
    """Read what stdin holds."""
    _bound_memory()
    logging.disable(logging.CRITICAL)  # pypdf tells of every oddity that it mends
    read = {"pdf": _pdf, "docx": _docx}[sys.argv[1]]
    try:
        text, note = read(sys.stdin.buffer)
        found = {"text": _checked(text), "note": note}
    except _RefusedError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": f"needs more than {MEMORY >> 30} GiB of memory to read; give a part of it, or its text"}
    except Exception as error:  # whatever a damaged file makes of its reader
        words = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        found = {"error": f"is damaged ({words}); save it again, or give its text"}
    json.dump(found, sys.stdout, ensure_ascii=False)


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _checked(text: str) -> str:
    if len(text) > LONGEST:
        raise _RefusedError(f"has more than {LONGEST:,} characters; give a part of it")
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _pdf(file: IO[bytes]) -> tuple[str, str]:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, WrongPasswordError

    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise _RefusedError(_ENCRYPTED)
    except (DependencyError, WrongPasswordError) as error:
        raise _RefusedError(_ENCRYPTED) from error
    n_pages = len(reader.pages)
    if n_pages > PAGES:
        raise _RefusedError(f"has {n_pages:,} pages, at most {PAGES:,} are read; give a part of it")
    text = "\n\n".join(_texts(reader.pages))
    shown = f"{n_pages:,} page{'' if n_pages == 1 else 's'}"
    if not text.strip():
        raise _RefusedError(f"has {shown} and no text in them, so they are pictures; run a text recognition over it")
    return text, shown


def _texts(pages: Any) -> Iterator[str]:
    """What stands on the pages, until it is more than may be."""
    total = 0
    for page in pages:
        text = page.extract_text().strip()
        total += len(text)
        if text:
            yield text
        if total > LONGEST:
            return


def _docx(file: IO[bytes]) -> tuple[str, str]:
    from docx import Document

    _check_parts(file)
    document = Document(file)
    text = "\n\n".join(filter(None, (_block(block) for block in document.iter_inner_content())))
    if not text.strip():
        raise _RefusedError("has no text in it; if it is made of pictures, run a text recognition over it")
    return text, ""


def _check_parts(file: IO[bytes]) -> None:
    """Refuse what is no document, and what would unpack to more than it may, before anything is unpacked."""
    try:
        parts = zipfile.ZipFile(file).infolist()
    except zipfile.BadZipFile as error:
        raise _RefusedError("is a damaged DOCX file; save it again") from error
    size = sum(part.file_size for part in parts)
    if size > UNPACKED or len(parts) > PARTS:
        raise _RefusedError(
            f"unpacks to {size / 1e6:,.0f} MB in {len(parts):,} parts, at most {UNPACKED / 1e6:.0f} MB in {PARTS:,}"
            " are read; give a part of it"
        )
    if any(part.flag_bits & 1 for part in parts):
        raise _RefusedError(_ENCRYPTED)
    if not any(part.filename == "[Content_Types].xml" for part in parts):
        raise _RefusedError("is no Word document inside (it has no [Content_Types].xml); save it again as DOCX")
    file.seek(0)


def _block(block: Any) -> str:
    """A paragraph, a heading with its marks, or a table with a row a line."""
    if hasattr(block, "rows"):
        return "\n".join(" | ".join(_cells(row)) for row in block.rows)
    style = str(block.style.name) if block.style is not None else ""
    level = style.removeprefix("Heading ")
    mark = "#" * int(level) + " " if style != level and level.isdecimal() and int(level) < 7 else ""
    mark = mark or ("- " if style.startswith("List") else "")
    text = str(block.text).strip()
    return f"{mark}{text}" if text else ""


def _cells(row: Any) -> Iterator[str]:
    """What the cells of a row say; one that spans several columns speaks once."""
    seen = None
    for cell in row.cells:
        if cell._tc is not seen:
            yield " ".join(cell.text.split())
        seen = cell._tc


if __name__ == "__main__":
    main()
