"""A chat template that nobody can read is told of when the file is made, and agrees with what chat says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nemotron_gguf.convert import open_checkpoint, plan_conversion
from nemotron_gguf.convert.chat_template import template_note
from nemotron_gguf.models.demo import CHECKPOINT
from nemotron_gguf.runner import ChatTemplate, RunnerError
from nemotron_gguf.tests.against.conftest import llama_cpp_source

if TYPE_CHECKING:
    from pathlib import Path

    from nemotron_gguf.tests.conftest import Checkpoints

BROKEN = {
    "open block": ("{% for m in messages %}{{ m.content }}", "line 1: Unexpected end of template"),
    "unknown tag": ("a\n{% frobnicate %}", "line 2: Encountered unknown tag 'frobnicate'"),
    "unknown filter": ("{{ messages | frobnicate }}", "No filter named 'frobnicate'"),
    "no expression": ("{{ 1 + }}", "line 1"),
    "deep": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested too deeply"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_template_that_cannot_be_read_is_told_of(name: str) -> None:
    source, reason = BROKEN[name]
    (note,) = template_note(source)
    assert reason in note
    assert "\n" not in note
    with pytest.raises(RunnerError):
        ChatTemplate(source)


def test_what_would_compute_is_not_computed() -> None:
    assert template_note("{{ 'x' * 10 ** 12 }}{{ 9 ** 9 ** 9 }}") == ()


def test_templates_of_all_makers_are_taken() -> None:
    paths = sorted((llama_cpp_source() / "models" / "templates").glob("*.jinja"))
    assert len(paths) > 20
    for path in [*paths, CHECKPOINT / "chat_template.jinja"]:
        assert template_note(path.read_text(encoding="utf-8")) == (), path.name
    assert template_note("{% generation %}{{ x }}{% endgeneration %}{% for a in b %}{% break %}{% endfor %}") == ()
    (note,) = template_note("x" * (1 << 18) + "y")
    assert "262145 characters" in note


def test_the_plan_tells_of_it(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "broken")
    folder.joinpath("chat_template.jinja").write_text("{% if %}", encoding="utf-8")
    with open_checkpoint(folder) as checkpoint:
        notes = plan_conversion(checkpoint).notes
    assert any("chat template is not valid (line 1: Expected an expression" in note for note in notes)
