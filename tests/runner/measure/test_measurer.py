"""References are exact, kept, gone on with and told apart; texts are cut as llama.cpp's tools cut them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from nemotron_gguf.models.errors import ModelError
from nemotron_gguf.models.gguf_reader import GGUFFile
from nemotron_gguf.models.reference_logits import read_layout
from nemotron_gguf.models.token_scores import read_scores
from nemotron_gguf.runner import RunnerError
from nemotron_gguf.runner.measure import measurer as module
from nemotron_gguf.runner.measure.chunks import cut
from nemotron_gguf.runner.measure.evaluation import Material
from nemotron_gguf.runner.measure.exam import take_exam
from nemotron_gguf.runner.measure.measurer import Measurer, output_matrix
from nemotron_gguf.runner.measure.reading import read_texts
from nemotron_gguf.runner.measure.window import Window
from nemotron_gguf.runner.placement.placement import Placement
from nemotron_gguf.runner.process.messages import OutputMatrix


@pytest.fixture(scope="module")
def material(measurer: Measurer, demo_q8: Path, text: str) -> Material:
    return measurer.read(demo_q8, [text], 12)


@pytest.mark.parametrize("form", ["compact", "plain", "wrong matrix"])
@pytest.mark.parametrize("window", [Window(64, threads=1), Window(96, threads=1, batch=32, ubatch=32)], ids=str)
def test_a_file_against_itself_is_zero(
    demo_files: Mapping[str, Path],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    window: Window,
) -> None:
    """Exactly, in every form; another file has the very same divergence in each."""
    if form == "plain":
        monkeypatch.setattr(module, "output_matrix", lambda _file, _place: None)
    elif form == "wrong matrix":  # the engine must notice that the bits are others
        monkeypatch.setattr(module, "output_matrix", _shifted)
    with Measurer(window) as measurer:
        material = measurer.read(demo_files["BF16"], [text], 4)
        reference = measurer.reference(demo_files["BF16"], material, tmp_path / "logits")
        layout = read_layout(reference.path)
        assert (layout.n_columns < layout.n_vocab) == (form == "compact") == (reference.matrix is not None)
        itself = measurer.evaluate(demo_files["BF16"], reference)
        assert not itself.values[:, [2, 3]].any()
        assert (itself.values[:, 4:] == 1).all()
        other = measurer.evaluate(demo_files["Q4_K_M"], reference)
        assert len(other.values) == material.n_predicted == 4 * (window.n_ctx - 1 - window.n_ctx // 2)
        known = _SEEN.setdefault(str(window), other.values)
        assert np.array_equal(known, other.values)
        alone = measurer.evaluate(demo_files["Q4_K_M"], material)
        assert np.array_equal(alone.values[:, 0], other.values[:, 0])


def _shifted(file: GGUFFile, place: Placement) -> OutputMatrix | None:
    found = output_matrix(file, place)
    return found and msgspec.structs.replace(found, offset=found.offset - 64)


_SEEN: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}


def test_an_unfinished_reference_is_gone_on_with(
    measurer: Measurer, demo_q8: Path, material: Material, tmp_path: Path
) -> None:
    """Cut anywhere, it ends in the same bytes, and only the rest is computed."""
    whole = measurer.reference(demo_q8, material, tmp_path / "whole").path.read_bytes()
    head = len(read_layout(tmp_path / "whole").head)
    chunk = read_layout(tmp_path / "whole").chunk_bytes
    target, part = tmp_path / "target", tmp_path / "target.part"
    told: list[int] = []
    for kept in (head - 5, head + 3 * chunk + 100, head + 11 * chunk):
        target.unlink(missing_ok=True)
        part.write_bytes(whole[:kept])
        told.clear()
        measurer.reference(demo_q8, material, target, report=lambda done, _total: told.append(done))
        assert target.read_bytes() == whole
        assert (told[0], told[-1]) == (max(kept - head, 0) // chunk, 12)
        assert not part.exists()


def test_a_reference_is_used_for_a_part_of_its_text_and_nothing_else(
    measurer: Measurer, demo_files: Mapping[str, Path], material: Material, tmp_path: Path
) -> None:
    cache, path = tmp_path / "logits", demo_files["Q8_0"]
    whole = measurer.evaluate(demo_files["Q4_K_M"], measurer.reference(path, material, cache)).values
    before = cache.stat().st_mtime_ns
    part = replace(material, chunks=material.chunks.first(5))
    told: list[tuple[int, int]] = []
    found = measurer.evaluate(
        demo_files["Q4_K_M"], measurer.reference(path, part, cache), report=lambda *at: told.append(at)
    )
    assert np.array_equal(found.values, whole[: len(found.values)])
    assert told[-1] == (5, 5)
    other = replace(material, chunks=replace(material.chunks, tokens=material.chunks.tokens[::-1]))
    with pytest.raises(RunnerError, match="another text"):
        measurer.reference(path, other, cache)
    with pytest.raises(RunnerError, match="another file"):
        measurer.reference(demo_files["BF16"], material, cache)
    with Measurer(Window(64, threads=1, batch=64)) as narrow, pytest.raises(RunnerError, match="another setting"):
        narrow.reference(path, material, cache)
    assert cache.stat().st_mtime_ns == before
    measurer.reference(demo_files["BF16"], material, cache, force=True)
    with pytest.raises(RunnerError, match="another file"):
        measurer.reference(path, material, cache)


def test_a_damaged_reference_is_noticed(measurer: Measurer, demo_q8: Path, material: Material, tmp_path: Path) -> None:
    cache = tmp_path / "logits"
    reference = measurer.reference(demo_q8, material, cache)
    whole = cache.read_bytes()
    spoiled = bytearray(whole)
    spoiled[-100] ^= 1
    cache.write_bytes(spoiled)
    with pytest.raises((RunnerError, ModelError), match="damaged at chunk 11"):
        measurer.evaluate(demo_q8, reference)
    cache.write_bytes(whole[:-1])
    with pytest.raises((RunnerError, ModelError), match="ends too early"):
        measurer.evaluate(demo_q8, reference)
    for bad in (b"", b"NMTRNREF", whole[:60], b"x" * 500, whole[:12] + b"\xff\xff\xff\xff" + whole[16:]):
        cache.write_bytes(bad)
        with pytest.raises(ModelError, match="no file of reference logits"):
            measurer.reference(demo_q8, material, cache)


def test_scores_are_kept_and_gone_on_with(
    measurer: Measurer, demo_files: Mapping[str, Path], material: Material, tmp_path: Path
) -> None:
    reference = measurer.reference(demo_files["BF16"], material, tmp_path / "logits")
    keep = tmp_path / "q4.scores"
    found = measurer.evaluate(demo_files["Q4_K_M"], reference, keep=keep)
    table, values = read_scores(keep)
    assert table.columns[:3] == ("nll", "nll_base", "kl")
    assert np.array_equal(values, found.values)
    again = measurer.evaluate(demo_files["Q4_K_M"], reference, keep=keep)
    assert (again.n_tokens, again.seconds) == (0, 0.0)
    assert np.array_equal(again.values, found.values)
    data = keep.read_bytes()
    keep.unlink()
    keep.with_name("q4.scores.part").write_bytes(data[: len(table.head) + 7 * table.chunk_bytes + 9])
    rest = measurer.evaluate(demo_files["Q4_K_M"], reference, keep=keep)
    assert rest.n_tokens == 5 * 64
    assert keep.read_bytes() == data
    other = measurer.evaluate(demo_files["Q8_0"], reference, keep=keep)  # of another file: begun anew
    assert other.n_tokens == 12 * 64
    keep.write_bytes(b"{}\n")
    with pytest.raises(ModelError, match="no file of token scores"):
        read_scores(keep)


def test_no_room_on_the_disk(
    measurer: Measurer, demo_q8: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    with pytest.raises(RunnerError, match="fewer --chunks"):
        measurer.reference(demo_q8, material, tmp_path / "logits")
    assert list(tmp_path.iterdir()) == []


def test_another_vocabulary_is_refused(
    measurer: Measurer, tiny_gguf: Callable[..., Path], demo_q8: Path, material: Material, tmp_path: Path
) -> None:
    with pytest.raises(RunnerError, match="another vocabulary"):
        measurer.evaluate(tiny_gguf(), material)
    llama = measurer.llama_reference(demo_q8, material, tmp_path / "kld")  # which says its size alone
    with pytest.raises(RunnerError, match="compare files of the same model"):
        measurer.evaluate(tiny_gguf(), llama)


def test_chunks_of_several_texts_are_mixed_evenly() -> None:
    long, short = range(1000, 1090), range(2000, 2035)
    chunks = cut([list(long), list(short)], 16, bos=1)
    assert chunks.tokens.shape == (7, 16)
    assert [row[0] // 1000 for row in chunks.tokens.tolist()] == [1, 2, 1, 1, 1, 2, 1]
    assert chunks.first(2).count == 2
    with pytest.raises(RunnerError, match="31 tokens, expected 32"):
        cut([list(range(31))], 16)


def test_tokens_are_those_of_llama_cpp(measurer: Measurer, demo_q8: Path, text: str) -> None:
    """By the Python bindings' own tokenizer: nothing added where the model wants no BOS, no special tokens."""
    import llama_cpp

    plain = llama_cpp.Llama(str(demo_q8), vocab_only=True, verbose=False)
    spelled = text[:3000] + "<|im_start|>user\n"
    wanted = plain.tokenize(spelled.encode(), add_bos=True, special=False)
    found = measurer.read(demo_q8, [spelled])
    assert found.chunks.tokens.ravel().tolist() == wanted[: found.chunks.tokens.size]
    special = measurer.engine.read_texts(demo_q8, [spelled], special=True).texts[0]
    assert np.frombuffer(special, np.int32).tolist() == plain.tokenize(spelled.encode(), add_bos=True, special=True)


def test_texts_are_read_from_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.txt").write_text("two\n\n", encoding="utf-8")
    (tmp_path / "a.txt").write_bytes("één\r\n".encode())
    assert read_texts([tmp_path / "a.txt", tmp_path]) == ("één\r", "één\r\ntwo\n")
    (tmp_path / "b" / "3.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path, "no text in UTF-8"), (tmp_path / "empty", "no files"), (tmp_path / "x", "No such")):
        with pytest.raises(RunnerError, match=words):
            read_texts([path])


def test_the_exam(demo_q8: Path, tiny_gguf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from nemotron_gguf.models.demo import QUESTIONS
    from nemotron_gguf.runner import Settings, open_model
    from nemotron_gguf.runner.measure import exam

    right = QUESTIONS[0]
    wrong = replace(right, expected=("no such words",))
    monkeypatch.setattr(exam, "QUESTIONS", (right, wrong))
    with open_model(demo_q8, Settings(temperature=0, threads=1)) as model:
        marks = take_exam(model)
    assert (marks.right, marks.total) == (1, 2)
    with open_model(tiny_gguf(), Settings(threads=1)) as model, pytest.raises(RunnerError, match="demo model's"):
        take_exam(model)
