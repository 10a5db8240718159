"""What an unfinished run left, damaged between two runs in every way: it is noticed, said, and made good."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.models.gguf_reader import read_gguf

if TYPE_CHECKING:
    from nemotron_gguf.tests.hostile.writer.conftest import Answer, Writer

READS = 7


@pytest.fixture(scope="session")
def left(writer: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What killed runs left: in `half` some chunks are in the journal; in `sealed` two finished files have no names."""
    folder = tmp_path_factory.mktemp("left")
    half = {"step": "fsync a.gguf.journal.new", "at": 3, "how": "after"}  # the first is the beginning
    assert writer.run(folder / "half", read_seconds=0.1, fault=half).killed
    assert folder.joinpath("half", "a.gguf.journal").read_bytes().count(b'"done"') > 1
    assert writer.run(folder / "sealed", fault={"step": "replace a.gguf.part", "at": 1, "how": "before"}).killed
    return folder


@pytest.fixture
def half(left: Path, place: Path) -> Path:
    return Path(shutil.copytree(left / "half", place))


@pytest.fixture
def sealed(left: Path, place: Path) -> Path:
    return Path(shutil.copytree(left / "sealed", place))


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 16]))


def gap(path: Path) -> int:
    """Where nothing is but padding, behind the tensor of 33 numbers."""
    one = next(tensor for tensor in read_gguf(path).tensors if tensor.name == "one")
    return one.offset + one.nbytes + 5


def said(answer: Answer) -> str:
    return "; ".join(answer.said)


def test_going_on_reads_only_what_is_missing(writer: Writer, half: Path) -> None:
    answer = writer.finish(half)
    assert 0 < answer.reads < READS
    assert "going on where an earlier run ended" in said(answer)
    assert "damaged" not in said(answer)


@pytest.mark.parametrize("state", ["half", "sealed"])
@pytest.mark.parametrize("where", ["header", "gap", "chunk", "last byte"])
def test_a_flipped_bit(writer: Writer, state: str, where: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(state)
    truth = writer.folder / "truth-tiny" / "a.gguf"
    stack = next(tensor for tensor in read_gguf(truth).tensors if tensor.name == "stack")
    places = {"header": 40, "gap": gap(truth), "chunk": stack.offset + 7, "last byte": truth.stat().st_size - 1}
    flip(folder / "a.gguf.part", places[where])
    answer = writer.finish(folder)
    if where == "chunk":
        assert "1 chunks of it are damaged and made again" in said(answer)
    if state == "sealed":
        assert answer.reads == {"chunk": 2, "last byte": 1}.get(where, 0)  # the first chunk is of two sources


@pytest.mark.parametrize("where", ["chunk", "header", "gap"])
def test_a_bit_that_flips_under_the_running_writer(writer: Writer, place: Path, where: str) -> None:
    """Written, but read back as something else: not named, said, and made good by the next run."""
    truth = writer.folder / "truth-tiny" / "b.gguf"
    offset = {"chunk": truth.stat().st_size - 100, "header": 30, "gap": gap(truth)}[where]
    answer = writer.run(place, flip=["b.gguf.part", offset])
    assert answer.error == "Interrupted"
    assert "does not read back as it was written in 1 places" in answer.message
    assert not list(place.glob("*.gguf"))
    assert writer.finish(place).reads == (where == "chunk")


def keep(text: bytes) -> bytes:
    return text


def lines_changed(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda text: b"\n".join(change(text.split(b"\n")))


def line(text: bytes) -> bytes:
    return b"%08x %s" % (zlib.crc32(text), text)


JOURNALS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "as it was": (keep, "going on"),
    "empty": (lambda _: b"", "is damaged"),
    "first line damaged": (lambda text: text[:20] + b"?" + text[21:], "is damaged"),
    "first line alone": (lines_changed(lambda lines: lines[:1]), "at 0 %"),
    "middle line damaged": (lines_changed(lambda lines: [lines[0], lines[1][:-3] + b"000", *lines[2:]]), "at 0 %"),
    "last line torn": (lambda text: text[:-9], "going on"),
    "last line torn, then more": (lambda text: text[:-9] + text, "going on"),
    "no line's end": (lambda text: text[:-1], "going on"),
    "binary rubbish": (lambda _: os.urandom(10_000), "is damaged"),
    "zeros, as after a power cut": (lambda text: bytes(len(text)), "is damaged"),
    "zeros at its end": (lambda text: text + bytes(4096), "going on"),
    "not JSON, well summed": (lambda text: text + line(b"{nonsense") + b"\n", "going on"),
    "strange records, well summed": (lambda text: text + line(b'{"done":[[],["x",{}]]}') + b"\n", "going on"),
    "unknown chunks": (lambda text: text + line(b'{"done":[[999,1,2],[-1,3,4]]}') + b"\n", "going on"),
    "too few checksums": (lambda text: text + line(b'{"done":[[0,1]]}') + b"\n", "going on"),
    "wrong checksums": (lambda text: text + line(b'{"done":[[0,1,2],[1,3,4]]}') + b"\n", "2 chunks of it are damaged"),
    "sealed too early": (lambda text: text + line(b'{"sealed":["0","0"]}') + b"\n", "going on"),
    "a list": (lambda text: line(b"[1,2]") + b"\n" + text, "another version of this program"),
    "deep": (lambda text: text + line(b"[" * 100_000) + b"\n", "going on"),
}


@pytest.mark.parametrize("case", JOURNALS)
def test_a_damaged_journal(writer: Writer, half: Path, case: str) -> None:
    change, words = JOURNALS[case]
    path = half / "a.gguf.journal"
    path.write_bytes(change(path.read_bytes()))
    answer = writer.finish(half)
    assert words in said(answer)


def test_a_huge_journal(writer: Writer, half: Path) -> None:
    with half.joinpath("a.gguf.journal").open("r+b") as file:
        file.truncate(300 << 20)
    assert "starting afresh" in said(writer.finish(half))


def test_a_folder_in_the_place_of_the_journal(writer: Writer, half: Path) -> None:
    path = half / "a.gguf.journal"
    path.unlink()
    path.mkdir()
    for options in ({}, {"restart": True}):
        answer = writer.run(half, options=options)
        assert (answer.error, answer.message.count("\n")) == ("Interrupted", 0)
        assert "a.gguf.journal" in answer.message
    path.rmdir()
    writer.finish(half)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "changed"}, "another source"),
        ({"recipe": "changed"}, "another recipe"),
        ({"version": "9.9"}, "another version of this program"),
    ],
)
def test_a_journal_of_something_else(writer: Writer, half: Path, change: dict[str, str], words: str) -> None:
    answer = writer.run(half, **change)
    assert (answer.done, answer.reads) == (True, READS)
    assert answer.said == [f"starting afresh: what an earlier run left is of {words}"]
    same = (half / "a.gguf").read_bytes() == writer.truth("tiny")["a.gguf"]
    assert same == ("recipe" not in change)


def test_restart_forgets(writer: Writer, half: Path) -> None:
    answer = writer.finish(half, options={"restart": True})
    assert (answer.reads, answer.said) == (READS, [])


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def longer(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def another(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("state", ["half", "sealed"])
@pytest.mark.parametrize("harm", [Path.unlink, shorter, longer, another, a_link, a_dangling_link])
def test_a_part_that_is_not_as_it_was(
    writer: Writer, state: str, harm: Callable[[Path], None], request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(state)
    harm(folder / "b.gguf.part")
    elsewhere = folder / "elsewhere"
    before = elsewhere.read_bytes() if elsewhere.exists() else b""
    answer = writer.run(folder)
    assert answer.done, answer
    if elsewhere.exists():
        assert elsewhere.read_bytes() == before, "what a link leads to is not ours"
        elsewhere.unlink()
    assert not folder.joinpath("nowhere").exists()
    assert ("damaged" if harm is another else "starting afresh") in said(answer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == writer.truth("tiny")


def test_a_folder_in_the_place_of_a_part(writer: Writer, half: Path) -> None:
    half.joinpath("b.gguf.part").unlink()
    half.joinpath("b.gguf.part").mkdir()
    answer = writer.run(half)
    assert (answer.error, "b.gguf.part: Is a directory" in answer.message) == ("Interrupted", True), answer
    half.joinpath("b.gguf.part").rmdir()
    writer.finish(half)
