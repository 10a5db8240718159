"""libllama in a process that forks for every file."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nemotron_gguf.tests.hostile.gguf.oracle import Oracle


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    if not hasattr(os, "fork"):
        pytest.skip("libllama is asked in a fork, which this system has not")
    with Oracle() as process:
        yield process
