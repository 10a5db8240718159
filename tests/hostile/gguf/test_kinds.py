"""The kinds of llama.cpp's own tests of its reader: refused where they must be, read where they may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemotron_gguf.models.errors import GGUFError
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.runner import NoModelError, inspect_model
from nemotron_gguf.tests.hostile.gguf.kinds import MUST_FAIL, MUST_PASS
from nemotron_gguf.tests.hostile.gguf.oracle import Oracle


@pytest.mark.parametrize("name", MUST_FAIL)
def test_what_ggml_refuses_is_refused(tmp_path: Path, name: str, oracle: Oracle) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(MUST_FAIL[name]().encode())
    with_data = name.startswith("data")
    assert oracle.read(path, with_data=with_data).outcome == "refuses", "the file is not what its name says"
    for header_alone in (False, not with_data):
        with pytest.raises(GGUFError) as caught:
            read_gguf(path, header_alone=header_alone)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MUST_PASS)
def test_what_ggml_reads_is_read(tmp_path: Path, name: str, oracle: Oracle) -> None:
    path, made = tmp_path / "a.gguf", MUST_PASS[name]()
    path.write_bytes(made.encode())
    assert oracle.read(path, with_data=name.startswith("data")).outcome == "runs"
    file = read_gguf(path, header_alone=name.startswith("tensors"))
    assert (len(file.metadata), len(file.tensors)) == (len(made.keys), len(made.infos))
    assert file.is_header_alone == (name in ("tensors: all types", "tensors: alignment of its own"))
    if file.is_header_alone:
        with pytest.raises(GGUFError, match="truncated"):
            read_gguf(path)
    with pytest.raises((GGUFError, NoModelError)):
        inspect_model(path)
