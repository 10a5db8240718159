"""A text of the demo model's world, and an engine that measures on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron_gguf.runner.measure.measurer import Measurer
from nemotron_gguf.runner.measure.window import Window

TEXT = Path(__file__).parents[2] / "against/golden/perplexity.txt"


@pytest.fixture(scope="session")
def text() -> str:
    return TEXT.read_text(encoding="utf-8")


@pytest.fixture(scope="package")
def measurer() -> Iterator[Measurer]:
    with Measurer(Window(64, threads=1)) as found:
        yield found
