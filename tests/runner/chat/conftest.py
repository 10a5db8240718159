"""Chat templates of many makers, from llama.cpp's source package; none of them is part of this repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemotron_gguf.tests.against.conftest import llama_cpp_source

DEMO = Path(__file__).parents[3] / "models" / "demo" / "checkpoint" / "chat_template.jinja"


@pytest.fixture(scope="session")
def templates() -> dict[str, str]:
    """Sources by file name."""
    folder = llama_cpp_source() / "models" / "templates"
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
    assert found, f"{folder} has no templates"
    return found


@pytest.fixture(scope="session")
def demo() -> str:
    return DEMO.read_text(encoding="utf-8")
