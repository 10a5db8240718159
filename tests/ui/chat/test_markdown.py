"""HTML stays text outside of code, mathematics stays mathematics, prices stay prices."""

from __future__ import annotations

import pytest

from nemotron_gguf.ui.chat.markdown import shown, unshown
from nemotron_gguf.ui.chat.pieces import escape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <b>c</b> <!-- d --> <?e", "a \\<b>c\\</b> \\<!-- d --> \\<?e"),
        ("1 < 2 and a<b", "1 < 2 and a\\<b"),
        ("`<b>` and ``a ` <i>``", "`<b>` and ``a ` <i>``"),
        ("a ` b <i>\n\n` c", "a ` b \\<i>\n\n` c"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n\\<b>"),
        ("- x\n  ~~~\n  <b>\n  ~~~\n<b>", "- x\n  ~~~\n  <b>\n  ~~~\n\\<b>"),
        ("```\n<b> and it never ends", "```\n<b> and it never ends"),
        ("````\n```\n<b>\n````\n<i>", "````\n```\n<b>\n````\n\\<i>"),
        ("\\<b>", "\\<b>"),
        ("$x<y$ costs $5 and $10", "\\(x<y\\) costs $5 and $10"),
        ("US$5, $ 5 $, a$b$c, $a$1", "US$5, $ 5 $, a$b$c, $a$1"),
        ("$$a<b$$ \\(c<d\\) \\[e<f\\]", "$$a<b$$ \\(c<d\\) \\[e<f\\]"),
    ],
)
def test_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_an_edited_question_is_as_it_was_typed() -> None:
    assert unshown(shown("a <b> c") + "!", "a <b> c") == "a <b> c!"
    assert unshown("keep \\<b>", "keep \\<b>") == "keep \\<b>"


def test_a_long_text_takes_no_long_time() -> None:
    for piece in ("`", "<", "$", "\\(", "~~~\n", "```", "$$", "a`b $c "):
        assert shown(piece * 3000)


def test_templates_of_gradio_find_nothing() -> None:
    assert escape("{{x}} ${y} <b> \"' ` \ud800") == (
        "&#123;&#123;x&#125;&#125; &#36;&#123;y&#125; &lt;b&gt; &quot;&#x27; &#96; ?"
    )
