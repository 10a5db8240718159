"""Keys that are pressed while an answer comes."""

from __future__ import annotations

import pytest

from nemotron_gguf.ui.terminal.ahead import typed_ahead


@pytest.mark.parametrize(
    ("keys", "sent", "line"),
    [
        ("", [], ""),
        ("\r\r\n", [], ""),
        ("later", [], "later"),
        ("now\r", ["now"], ""),
        ("now\nthen", ["now"], "then"),
        ("one\x1b\rtwo\r", ["one\ntwo"], ""),
        ("one\\\rtwo\r", ["one\\\ntwo"], ""),
        ('"""a\rb"""\r', ['"""a\nb"""'], ""),
        ("\x1b[200~a\r\nb\rc\x1b[201~", [], "a\nb\nc"),
        ("\x1b[200~a\rb", [], "a\nb"),
        ("ax\x7fb\x7f\x7f\x7fc", [], "c"),
        ("a\x1b[A\x1bOBb\x1bx\x01", [], "ab"),
        ("/sta\x7fats\r你", ["/stats"], "你"),
    ],
)
def test_enter_sends_and_a_paste_does_not(keys: str, sent: list[str], line: str) -> None:
    assert typed_ahead(keys) == (sent, line)


def test_a_line_that_was_begun_goes_on() -> None:
    assert typed_ahead("b\rc", "a") == (["ab"], "c")
