"""Texts of any kind become attachments; what is none, or in an encoding that nobody can be sure of, is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nemotron_gguf.ui.attachments import Attachment, AttachmentError, compose, read
from nemotron_gguf.ui.attachments.reading import LARGEST

FRENCH = "Les élèves ont été très étonnés de voir où menait ce chemin: à côté du château, près de la forêt."
CHINESE = "量化是把模型的权重压缩成更小的数字，这样文件会变小，速度会变快。"
JAPANESE = "これは日本語の文章です。量子化によってファイルが小さくなります。"
RUSSIAN = "Привет, мир! Это обычный текст на русском языке, который надо прочитать."


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("text", "encoding", "note"),
    [
        (CHINESE, "utf-8", ""),
        (CHINESE, "utf-8-sig", ""),
        (CHINESE, "utf-16", ""),
        (CHINESE, "utf-32", ""),
        (CHINESE, "gb18030", "read as gb18030"),
        (JAPANESE, "shift_jis", "read as shift_jis"),
        (FRENCH, "cp1252", "read as cp1252"),
        (RUSSIAN, "cp1251", "read as cp1251"),
    ],
)
def test_encodings_are_found(tmp_path: Path, text: str, encoding: str, note: str) -> None:
    found = read(written(tmp_path, "notes.txt", f"{text}\r\nend\r\n".encode(encoding)))
    assert found == Attachment("notes.txt", "text", f"{text}\nend\n", note)


def test_a_few_damaged_bytes_do_not_make_another_encoding_of_utf_8(tmp_path: Path) -> None:
    found = read(written(tmp_path, "a.log", CHINESE.encode() + b"\xff" + CHINESE.encode()))
    assert found.text == f"{CHINESE}\ufffd{CHINESE}"
    assert "1 byte cannot be read" in found.note


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"ab\0c", "zero bytes"),
        (bytes(range(1, 256)) * 4, "binary"),
        ("你好，世界".encode("gb18030"), "0xc4.*not certain; save it as UTF-8"),
        ("é".encode("latin-1"), "0xe9.*not certain"),
        (b"\xff\xfea", "begins as UTF-16 and is damaged at byte"),
    ],
)
def test_what_is_no_text_for_certain_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(AttachmentError, match=words) as error:
        read(written(tmp_path, "a.txt", data))
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", LARGEST + 1)
    for name, words in {"large": "at most", "none": "No such file", ".": "folder", "a\0b": "cannot be read"}.items():
        with pytest.raises(AttachmentError, match=words):
            read(f"{tmp_path}/{name}")
    if sys.platform != "win32":
        with pytest.raises(AttachmentError, match="no regular file"):
            read("/dev/null")


def test_kinds_are_told_by_names(tmp_path: Path) -> None:
    kinds = {"a.py": "code", "b.md": "markdown", "c.log": "text", "Makefile": "text", "d.TSV": "csv", "e.json": "code"}
    for name, kind in kinds.items():
        assert read(written(tmp_path, name, b"x\n")).kind == kind, name


@pytest.mark.parametrize(
    ("name", "data", "note"),
    [
        ("a.csv", b"name,age\nAda,36\n\n", "2 rows, 2 columns"),
        ("a.csv", b'name;note\nAda;"one;\ntwo"\n', "2 rows, 2 columns"),
        ("a.tsv", b"a\tb\tc\n1\t2\t3\n", "2 rows, 3 columns"),
        ("a.csv", b"alone", "1 row, 1 column"),
        ("a.csv", b"", ""),
        (
            "a.csv",
            "姓名,年龄,城市\n张三,30,北京\n李四,25,上海\n".encode("gb18030"),
            "3 rows, 3 columns, read as gb18030",
        ),
    ],
)
def test_tables_keep_their_text_and_tell_their_size(tmp_path: Path, name: str, data: bytes, note: str) -> None:
    found = read(written(tmp_path, name, data))
    assert (found.kind, found.note) == ("csv", note)
    assert "gb18030" in note or found.text == data.decode()


def test_a_person_is_told_name_size_and_note(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a.csv", b"a,b\n1,2\n")).describe() == "a.csv: 8 bytes, 2 lines, 2 rows, 2 columns"
    assert Attachment("", "text", "x").describe() == "the pipe: 1 bytes, 1 line"


def test_a_fence_cannot_be_closed_by_what_is_in_it() -> None:
    text = compose("see", [Attachment("a.md", "markdown", "```\n`````\n")])
    assert text == "see\n\n`a.md`:\n``````\n```\n`````\n``````"
    assert compose("", [Attachment("", "text", "x")]) == "```\nx\n```"


def test_the_model_is_told_what_a_text_was_made_of() -> None:
    text = compose("see", [Attachment("a.pdf", "pdf", "x", "2 pages")])
    assert text == "see\n\n`a.pdf` (text of a PDF, 2 pages):\n```\nx\n```"
