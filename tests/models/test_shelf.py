"""The library: what is in it, and which of it a name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.shelf import Origin, books, find, find_origin, library, write_origin

NANO = "NVIDIA-Nemotron-3-Nano-30B-A3B-Q4_K_M"
PARTS = tuple(f"Super-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    monkeypatch.setenv("NEMOTRON_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def put(folder: Path, *names: str, size: int = 10) -> None:
    for name in names:
        folder.joinpath(name).write_bytes(b"x" * size)


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOTRON_HOME", str(tmp_path / "mine"))
    assert library() == tmp_path / "mine"
    monkeypatch.setenv("NEMOTRON_HOME", "~/models")
    assert library() == Path.home() / "models"
    monkeypatch.delenv("NEMOTRON_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if os.name == "posix" and "HOME" in os.environ:
        assert library().name == "nemotron-gguf"


def test_parts_are_one_and_other_files_none(shelf: Path) -> None:
    put(shelf, *PARTS, f"{NANO}.gguf", "loose.GGUF", "notes.txt", f"{NANO}.gguf.sha256", "x.gguf.part", ".hid.gguf")
    (shelf / "folder.gguf").mkdir()
    found = {book.name: book for book in books()}
    assert list(found) == sorted(["Super-Q8_0", NANO, "loose"])
    assert found["Super-Q8_0"].size == 30
    assert [path.name for path in found["Super-Q8_0"].files] == list(PARTS)
    assert found["Super-Q8_0"].path == shelf / PARTS[0]
    assert all(book.problem is None for book in found.values())


def test_no_library_is_an_empty_one(tmp_path: Path) -> None:
    assert books(tmp_path / "none") == []


@pytest.mark.parametrize("name", [NANO, f"{NANO}.gguf", NANO.lower(), f"{NANO.upper()}.GGUF"])
def test_a_name_with_or_without_its_ending(shelf: Path, name: str) -> None:
    put(shelf, f"{NANO}.gguf", *PARTS)
    assert find(name) == shelf / f"{NANO}.gguf"


@pytest.mark.parametrize("name", ["Super-Q8_0", "super-q8_0.gguf", PARTS[0], PARTS[2], PARTS[1].removesuffix(".gguf")])
def test_parts_by_their_common_name_or_any_one(shelf: Path, name: str) -> None:
    put(shelf, *PARTS)
    assert find(name) == shelf / PARTS[0]


def test_what_is_here_comes_first(shelf: Path, tmp_path: Path) -> None:
    put(shelf, "a.gguf")
    put(tmp_path, "a.gguf")
    assert find("a.gguf") == Path("a.gguf")
    assert find("a") == shelf / "a.gguf"
    assert find("folder/a") == Path("folder/a"), "a path is nobody's name"
    assert find(str(tmp_path / "none.gguf")) == tmp_path / "none.gguf"


def test_a_part_that_is_missing(shelf: Path) -> None:
    put(shelf, PARTS[0], PARTS[2])
    assert books()[0].problem == "1 of its 3 parts missing"
    with pytest.raises(ModelError, match="1 of its 3 parts missing"):
        find("Super-Q8_0")


@pytest.mark.parametrize(
    ("name", "words"),
    [("NVIDIA-Nemotron-3-Nano-30B-A3B-Q4_KM", f"did you mean {NANO}"), ("nano", f"did you mean {NANO}"),
     ("zzz", "`nemotron models` lists"), ("a\0b", "no model of that name")],
)  # fmt: skip
def test_a_name_that_is_none(shelf: Path, name: str, words: str) -> None:
    put(shelf, f"{NANO}.gguf", *PARTS)
    with pytest.raises(ModelError, match=words) as caught:
        find(name)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("shelf")
def test_an_empty_library_says_how_to_fill_it() -> None:
    with pytest.raises(ModelError, match="nemotron pull"):
        find("anything")


def test_a_name_that_is_two(shelf: Path) -> None:
    put(shelf, *PARTS, "Super-Q8_0.gguf")
    with pytest.raises(ModelError, match=r"more than one.*Super-Q8_0"):
        find("Super-Q8_0")
    assert find("Super-Q8_0-00002-of-00003") == shelf / PARTS[0]


def test_links_that_lead_nowhere_are_named(shelf: Path) -> None:
    if os.name == "nt":
        pytest.skip("links need rights there")
    (shelf / "gone.gguf").symlink_to(shelf / "nowhere")
    assert "No such file" in (books()[0].problem or "")


ORIGIN = Origin("org/Some-GGUF", "", "c" * 40, ("",), "Q4_K_M", "Some-Q4_K_M.gguf")


def test_what_was_pulled_is_found_by_its_origin(shelf: Path) -> None:
    put(shelf, "Some-Q4_K_M.gguf")
    path = shelf / "Some-Q4_K_M.gguf"
    assert find_origin("org/Some-GGUF", "", "", "Q4_K_M") is None
    write_origin(path, ORIGIN)
    for asked in ("", "Q4_K_M", "q4_k_m"):
        assert find_origin("ORG/some-gguf", "", asked, "Q4_K_M") == path
    assert find_origin("org/Some-GGUF", "", "Q8_0", "Q4_K_M") is None
    assert find_origin("org/Some-GGUF", "v2", "", "Q4_K_M") is None
    assert find_origin("org/Other-GGUF", "", "", "Q4_K_M") is None
    path.unlink()
    assert find_origin("org/Some-GGUF", "", "", "Q4_K_M") is None


def test_all_that_it_was_asked_by_is_remembered(shelf: Path) -> None:
    """The only model of a repository, pulled without a type, is not the usual type; asked again by name it is both."""
    put(shelf, "Some-Q8_0.gguf")
    path = shelf / "Some-Q8_0.gguf"
    only = Origin("org/Some-GGUF", "", "c" * 40, ("",), "Q8_0", "Some-Q8_0.gguf")
    write_origin(path, only)
    write_origin(path, Origin("org/Some-GGUF", "", "d" * 40, ("Some-Q8_0.gguf",), "Q8_0", "Some-Q8_0.gguf"))
    for asked, found in (("", path), ("Q8_0", path), ("Some-Q8_0.gguf", path), ("Q4_K_M", None)):
        assert find_origin("org/Some-GGUF", "", asked, "Q4_K_M") == found


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 5000, '{"asked": 1}', '{"asked": [1], "repo_id": "a/b"}', "\0"])
def test_an_origin_that_makes_no_sense_is_none(shelf: Path, text: str) -> None:
    put(shelf, "a.gguf")
    (shelf / "a.gguf.origin.json").write_text(text)
    assert find_origin("a/b", "", "", "Q4_K_M") is None
    write_origin(shelf / "a.gguf", ORIGIN)
    assert find_origin("org/Some-GGUF", "", "", "Q4_K_M") == shelf / "a.gguf"
