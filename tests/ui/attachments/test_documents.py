"""PDF and DOCX: their text is read in a process of its own; what is hostile, damaged or empty is one clear line."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from docx import Document
from pypdf import PdfWriter

from nemotron_gguf.ui.attachments import AttachmentError, documents, read


def pdf(pages: Sequence[str]) -> bytes:
    """A small PDF with a line of text on each page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else ""
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    n = len(objects) + 1
    return (
        f"{out}xref\n0 {n}\n0000000000 65535 f \n{table}trailer\n<< /Size {n} /Root 1 0 R >>\n"
        f"startxref\n{len(out)}\n%%EOF\n"
    ).encode()


def locked(password: str) -> bytes:
    writer = PdfWriter(io.BytesIO(pdf(["Secret"])))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx() -> bytes:
    document = Document()
    document.add_heading("Report", 1)
    document.add_paragraph("The first 段落.")
    table = document.add_table(2, 2)
    for row, words in zip(table.rows, (("name", "age"), ("Ada", "36")), strict=True):
        for cell, word in zip(row.cells, words, strict=True):
            cell.text = word
    document.add_paragraph("the last", style="List Bullet")
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def bomb() -> bytes:
    """A DOCX whose table of contents says that one part unpacks to 2 GiB."""
    data = bytearray(docx())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 2 << 30)
    return bytes(data)


def other_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "x")
    return out.getvalue()


def test_a_pdf_gives_its_text(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(pdf(["Hello from page one", "", "And page three"]))
    found = read(tmp_path / "report.pdf")
    assert (found.kind, found.note) == ("pdf", "3 pages")
    assert found.text == "Hello from page one\n\nAnd page three"


def test_a_docx_gives_its_text_in_order(tmp_path: Path) -> None:
    (tmp_path / "report.docx").write_bytes(docx())
    found = read(tmp_path / "report.docx")
    assert found.kind == "docx"
    assert found.text == "# Report\n\nThe first 段落.\n\nname | age\nAda | 36\n\n- the last"


def test_a_pdf_that_only_its_owner_may_change_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(locked(""))
    assert read(tmp_path / "a.pdf").text == "Secret"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pdf", lambda: locked("pass"), "is encrypted; save it without a password"),
        ("a.pdf", lambda: pdf(["", ""]), "has 2 pages and no text in them, so they are pictures"),
        ("a.pdf", lambda: b"%PDF-1.7\n" + b"\xde\xad" * 99, "is damaged"),
        ("a.pdf", lambda: b"hello", "not one by its first bytes"),
        ("a.pdf", lambda: b"", "is named as a PDF file and is empty"),
        ("a.docx", bomb, "unpacks to 2,1.. MB in"),
        ("a.docx", lambda: docx()[:2000], "is a damaged DOCX file"),
        ("a.docx", other_zip, "is no Word document inside"),
        ("a.docx", lambda: bytes.fromhex("d0cf11e0a1b11ae1"), "is encrypted"),
        ("a.doc", lambda: bytes.fromhex("d0cf11e0a1b11ae1"), "Word file of before 2007"),
        ("a.zip", other_zip, "binary"),
    ],
)
def test_what_gives_no_text_says_why(tmp_path: Path, name: str, data: object, words: str) -> None:
    assert callable(data)
    (tmp_path / name).write_bytes(data())
    with pytest.raises(AttachmentError, match=words) as error:
        read(tmp_path / name)
    assert str(error.value).startswith(name)
    assert "\n" not in str(error.value)


def test_a_document_has_only_so_much_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "SECONDS", 0.001)
    (tmp_path / "a.pdf").write_bytes(pdf(["x"]))
    with pytest.raises(AttachmentError, match="took longer than 0 s to read"):
        read(tmp_path / "a.pdf")


def test_entities_of_a_docx_are_not_expanded(tmp_path: Path) -> None:
    """A file of this machine that the document names stays unread, and a laugh is not made a billion times."""
    (tmp_path / "secret").write_text("SECRET")
    source, out = zipfile.ZipFile(io.BytesIO(docx())), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for part in source.infolist():
            data = source.read(part)
            if part.filename == "word/document.xml":
                kinds = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'.encode()
                data = data.replace(b"?>", b"?>" + kinds, 1).replace(b"The first", b"The first &e;")
                assert b"&e;" in data
            archive.writestr(part.filename, data)
    (tmp_path / "a.docx").write_bytes(out.getvalue())
    try:
        assert "SECRET" not in read(tmp_path / "a.docx").text
    except AttachmentError as error:
        assert "damaged" in str(error)
