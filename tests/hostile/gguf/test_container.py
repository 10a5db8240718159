"""GGUF files made to mislead: each ends in one GGUFError, quickly and without the memory that the file asks for."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemotron_gguf.models.errors import GGUFError, NemotronError
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.models.gguf_values import ValueType, array, u32
from nemotron_gguf.runner import inspect_model
from nemotron_gguf.tests.hostile.gguf.container_cases import ADVISORIES, CASES, info, key, preamble
from nemotron_gguf.tests.hostile.gguf.draft import Draft, llama, moe, text
from nemotron_gguf.tests.hostile.gguf.oracle import Oracle


def refused(path: Path, read: Callable[[Path], object] = read_gguf) -> str:
    """The one line about a file; within a second of the processor and 100 MB."""
    start = time.process_time()
    with pytest.raises(NemotronError) as caught:
        read(path)
    assert time.process_time() - start < 1
    tracemalloc.start()  # which makes it several times slower
    try:
        with pytest.raises(NemotronError):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*CASES, *ADVISORIES])
def test_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes({**CASES, **ADVISORIES}[name])
    assert "GGUF" in refused(path)


SPARSE: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "10^9 empty strings": (lambda: preamble(keys=1) + key("a", 9, struct.pack("<IQ", 8, 10**9)), 9 << 30, "items"),
    "2^31 zeros": (lambda: preamble(keys=1) + key("a", 9, struct.pack("<IQ", 0, 2**31)), 3 << 30, "items"),
    "strings of 16 MiB without end": (
        lambda: (
            preamble(keys=9)
            + b"".join(key(f"k{index}", 8, struct.pack("<Q", 16 << 20)) + bytes(16 << 20) for index in range(4))
        ),
        1 << 30,
        "goes on after",
    ),
    "10^7 tensors of nothing": (lambda: preamble(tensors=10**7), 1 << 30, "empty"),
    "300000 tensors of long names": (
        lambda: preamble(tensors=300_000) + b"".join(info(f"{index:063}", (0,)) for index in range(300_000)),
        1 << 30,
        "list of tensors goes on",
    ),
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_large_file_costs_no_more(tmp_path: Path, name: str) -> None:
    """Holes on the disk cost a hostile author nothing; reading them would cost us."""
    make, size, words = SPARSE[name]
    path = tmp_path / "sparse.gguf"
    path.write_bytes(make())
    os.truncate(path, size)
    assert words in refused(path)


def boundaries(draft: Draft) -> Iterator[tuple[int, str]]:
    """Where each field of a header begins, and its name."""
    at = 0
    for size, name in ((4, "magic"), (4, "version"), (8, "tensors"), (8, "keys")):
        yield at, name
        at += size
    for name, value in draft.metadata.items():
        encoded = value.encode()
        yield at, f"length of {name}"
        yield at + 8, name
        at += len(text(name))
        yield at, f"type of {name}"
        yield at + 4, f"value of {name}"
        if value.is_array:
            yield at + 8, f"count of {name}"
            yield at + 16, f"items of {name}"
        at += len(encoded)
    for name, entry in draft.tensors.items():
        dims = at + len(text(name))
        kind = dims + 4 + 8 * len(entry.shape)
        yield at, f"length of {name}"
        yield at + 8, name
        yield dims, f"dimensions of {name}"
        yield from ((dims + 4 + 8 * index, f"dimension {index} of {name}") for index in range(len(entry.shape)))
        yield kind, f"type of {name}"
        yield kind + 4, f"offset of {name}"
        at = kind + 12
    yield at, "padding"


def small() -> Draft:
    """A model of the family whose vocabulary is small, so that most of its header is structure."""
    draft = moe()
    words = [str(word) for word in draft.metadata["tokenizer.ggml.tokens"].data[:12]]  # type: ignore[index]
    draft.metadata["tokenizer.ggml.tokens"] = array(ValueType.STRING, words)
    draft.metadata["tokenizer.ggml.token_type"] = array(ValueType.INT32, [1] * len(words))
    draft.set(A__vocab_size=u32(len(words)))
    for name in ("token_embd.weight", "output.weight"):
        draft.shape(name, len(words), 64)
    return draft


def test_cut_at_each_field(tmp_path: Path) -> None:
    """Before each field and one byte into it; and in the weights."""
    draft, path = small(), tmp_path / "cut.gguf"
    whole = draft.write(path).read_bytes()
    header, data = draft.header()
    places = [at + more for at, _ in boundaries(draft) for more in (0, 1)]
    assert places[-2] <= len(header) <= places[-2] + 32, "the fields are those of the header"
    assert len(places) > 300
    for at in (*places, len(header), len(header) + 1, len(header) + data // 2, len(whole) - 33):
        path.write_bytes(whole[:at])
        with pytest.raises(GGUFError) as caught:
            read_gguf(path)
        assert str(caught.value).isprintable()
    path.write_bytes(whole[: len(header)])
    assert read_gguf(path, header_alone=True).is_header_alone


def test_each_byte_of_the_header_turned(tmp_path: Path, oracle: Oracle) -> None:
    """Refused in one line, or still a model that libllama survives (every fifth is put to it)."""
    draft, path = small(), tmp_path / "turned.gguf"
    whole, header = draft.write(path).read_bytes(), len(draft.header()[0])
    passed = []
    with path.open("r+b") as file:
        for at in range(header):
            file.seek(at)
            file.write(bytes([whole[at] ^ 0xFF]))
            file.flush()
            try:
                inspect_model(path)
            except NemotronError as error:
                assert str(error).isprintable()
            else:
                passed.append(at)
                if len(passed) % 5 == 0:
                    verdict = oracle.ask(path)
                    assert verdict.outcome in ("runs", "refuses"), (at, verdict)
            file.seek(at)
            file.write(whole[at : at + 1])
    assert inspect_model(path).architecture == "nemotron_h_moe"
    assert header // 50 < len(passed) < header // 2, "letters of names and numbers without bounds, no more"


def test_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    draft, path = llama().drop("blk.1."), tmp_path / "changed.gguf"
    draft.metadata = {key: value for key, value in draft.metadata.items() if not key.startswith("tokenizer")}
    whole, header = draft.write(path).read_bytes(), len(draft.header()[0])
    os.truncate(path, header)
    with path.open("r+b") as file:
        for at in range(header):
            for value in (0x00, 0x80, whole[at] ^ 1, whole[at]):
                file.seek(at)
                file.write(bytes([value]))
                file.flush()
                try:
                    read_gguf(path, header_alone=True)
                except GGUFError as error:
                    assert str(error).isprintable()
                    assert value != whole[at]


def test_a_flag_is_any_byte(tmp_path: Path) -> None:
    """As ggml reads it; a copy of the header has 0 and 1."""
    path = tmp_path / "flag.gguf"
    path.write_bytes(preamble(keys=2) + key("a", 7, b"\x02") + key("b", 9, struct.pack("<IQ", 7, 3) + b"\x00\x01\xff"))
    file = read_gguf(path)
    assert (file.get("a"), file.get("b")) == (True, [False, True, True])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(GGUFError, match="pipe"):
        read_gguf(tmp_path / "pipe.gguf")


@pytest.mark.parametrize(
    ("make", "word"),
    [(lambda _: None, "No such file"), (lambda path: path.mkdir(), "folder")],
    ids=["missing", "folder"],
)
def test_no_file_at_all(tmp_path: Path, make: Callable[[Path], None], word: str) -> None:
    path = tmp_path / "absent.gguf"
    make(path)
    with pytest.raises(GGUFError, match=word):
        read_gguf(path)
