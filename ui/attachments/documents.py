"""PDF and DOCX: read in a process of their own, so that none of them takes more time or memory than it may."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Literal, TypeAlias

from nemotron_gguf.ui.attachments.attachment import Attachment
from nemotron_gguf.ui.attachments.errors import AttachmentError
from nemotron_gguf.ui.bounded import Ended, run_bounded

SECONDS = 60.0
LONGEST = 8_000_000  # characters; more than any context holds
DOCUMENTS = (".pdf", ".docx")

DocumentKind: TypeAlias = Literal["pdf", "docx"]

_OLD_WORD = bytes.fromhex("d0cf11e0a1b11ae1")
_ZIP = b"PK\x03\x04"
_HEAD = 1024  # bytes in which a PDF's mark must stand


def kind_of_document(file: IO[bytes], path: Path, size: int) -> DocumentKind | None:
    """Which document a file is by its first bytes, None for another; the file is at its beginning again.

    Raises AttachmentError for a name that promises a document which the bytes are not, and for Word's old format.
    """
    head = file.read(_HEAD)
    file.seek(0)
    suffix = path.suffix.lower()
    if b"%PDF-" in head and (head.startswith(b"%PDF-") or suffix == ".pdf"):
        return "pdf"
    if head.startswith(_OLD_WORD) and suffix == ".docx":  # what Word makes of a document with a password
        raise AttachmentError(f"{path.name} is encrypted; save it without a password and attach that")
    if head.startswith(_OLD_WORD):
        raise AttachmentError(f"{path.name} is a Word file of before 2007; save it as DOCX or PDF")
    if suffix == ".docx" and head.startswith(_ZIP):
        return "docx"
    if suffix in DOCUMENTS:
        found = "empty" if not size else "not one by its first bytes, so it is damaged or misnamed"
        raise AttachmentError(f"{path.name} is named as a {suffix[1:].upper()} file and is {found}; save it again")
    return None


def read_document(file: IO[bytes], kind: DocumentKind, name: str) -> Attachment:
    """The text of a document. Raises AttachmentError for one that is damaged, encrypted, too large, or without text."""
    command = [sys.executable, "-P", "-m", "nemotron_gguf.ui.attachments.extracting", kind]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    ended = run_bounded(command, seconds=SECONDS, most=6 * LONGEST + 4096, stdin=file, env=environment)
    found = _answer(ended, name)
    if "error" in found:
        raise AttachmentError(f"{name} {found['error']}")
    return Attachment(name, kind, found["text"], found["note"])


def _answer(ended: Ended, name: str) -> dict[str, str]:
    """What the process found out. Raises AttachmentError where it did not come to an end by itself."""
    if ended.why == "time":
        raise AttachmentError(f"{name} took longer than {SECONDS:.0f} s to read; give a part of it, or its text")
    try:
        found: dict[str, str] = json.loads(ended.out)
    except ValueError as error:
        last = ended.err.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        why = last or f"its reader ended with status {ended.status}"
        raise AttachmentError(f"{name} cannot be read ({why}); save it again, or give its text") from error
    return found
