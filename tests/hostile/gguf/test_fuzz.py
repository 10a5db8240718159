"""A bounded run of what bench/fuzz_gguf.py does for as long as one likes: what passes the preflight kills nothing."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemotron_gguf.models.errors import GGUFError, NemotronError
from nemotron_gguf.models.gguf_reader import read_gguf
from nemotron_gguf.runner import inspect_model
from nemotron_gguf.tests.hostile.gguf.container_cases import info, key, preamble
from nemotron_gguf.tests.hostile.gguf.mutate import write_mutant
from nemotron_gguf.tests.hostile.gguf.oracle import Oracle

bounded = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@settings(bounded, max_examples=400)
@given(seed=st.integers(0, 2**32))
def test_what_passes_is_run_or_refused(tmp_path: Path, oracle: Oracle, seed: int) -> None:
    path = tmp_path / "mutant.gguf"
    said = write_mutant(random.Random(seed), path)
    if not said:
        return
    try:
        inspect_model(path)
    except NemotronError as error:
        assert str(error).isprintable(), said
    else:
        verdict = oracle.ask(path)
        assert verdict.outcome in ("runs", "refuses"), (said, verdict)


SIZES = st.one_of(st.integers(0, 70), st.integers(0, 2**64 - 1))
TENSORS = st.builds(
    lambda name, dims, kind, offset: info(name, tuple(dims), kind, offset),
    st.text("abc.0", max_size=3),
    st.lists(SIZES, max_size=5),
    st.one_of(st.integers(0, 45), st.integers(0, 2**32 - 1)),
    st.one_of(st.integers(0, 5).map(lambda index: 32 * index), SIZES),
)
KEYS = st.builds(
    lambda name, kind, payload: key(name, kind, payload),
    st.one_of(st.text("abc.0", max_size=3), st.just("general.alignment")),
    st.integers(0, 14),
    st.one_of(st.binary(max_size=24), st.builds(lambda n: n.to_bytes(4, "little"), st.integers(0, 2**32 - 1))),
)


@settings(bounded, max_examples=600)
@given(keys=st.lists(KEYS, max_size=3), tensors=st.lists(TENSORS, max_size=3), end=st.binary(max_size=99))
def test_headers_of_any_parts(
    tmp_path: Path, oracle: Oracle, keys: list[bytes], tensors: list[bytes], end: bytes
) -> None:
    """What our reader takes, ggml's takes too."""
    path = tmp_path / "parts.gguf"
    path.write_bytes(preamble(len(tensors), len(keys)) + b"".join(keys + tensors) + end)
    try:
        read_gguf(path)
    except GGUFError as error:
        assert str(error).isprintable()
    else:
        assert oracle.read(path, with_data=False).outcome == "runs"


@settings(bounded, max_examples=300)
@given(data=st.binary(max_size=300))
def test_noise(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + data)
    try:
        read_gguf(path)
    except GGUFError as error:
        assert str(error).isprintable()
