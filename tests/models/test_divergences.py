"""Tables of divergences: what is written is read, what is wrong is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemotron_gguf.models.divergences import Divergence, Divergences, Setting, read_divergences, write_divergences
from nemotron_gguf.models.errors import ModelError

SETTING = Setting("démo", "ab12", "", "cd", 512, 16)
HEAD = (
    '{"format": "nemotron-gguf divergences", "version": 1, "name": "m", "source": "", "imatrix": "", "text": "t",'
    ' "ctx_size": 512, "chunks": 16}\n'
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = Divergences(SETTING).with_cell("expert_up=IQ3_S", Divergence(0.1 + 0.2, 1e-17, 8160))
    table = table.with_cell("base", Divergence(-1e-12, 0.0, 8160))
    path = tmp_path / "t.jsonl"
    write_divergences(path, table)
    assert read_divergences(path) == table
    assert path.read_text(encoding="utf-8").count("\n") == 3
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("[1]\n", "line 1 is no JSON object"),
        ('{"format": "x"}\n', "expected nemotron-gguf divergences"),
        (HEAD.replace('"chunks": 16', '"chunks": true'), "no sound chunks"),
        (HEAD.replace('"version": 1', '"version": 2'), "in version 2"),
        (HEAD + "nonsense\n", "line 2 is no JSON object"),
        (HEAD + '{"changed": "a", "mean": NaN, "error": 0, "tokens": 1}\n', "line 2 is no measurement"),
        (HEAD + '{"changed": "a", "mean": 1, "error": -1, "tokens": 1}\n', "line 2 is no measurement"),
        (HEAD + '{"changed": "a", "mean": 1, "error": 1, "tokens": 0}\n', "line 2 is no measurement"),
        (HEAD + '{"changed": 5, "mean": 1, "error": 1, "tokens": 3}\n', "line 2 is no measurement"),
        (HEAD + "[" * 100_000, "line 2 is no JSON object"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        read_divergences(path)
