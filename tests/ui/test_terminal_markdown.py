"""Answers as rows: nothing is lost, doubled or wider than the terminal, however they come in pieces."""

from __future__ import annotations

import random

import pyte
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nemotron_gguf.tests.ui.scripted_talk import ANSWERS, ESSAY
from nemotron_gguf.ui.terminal.growing import Growing
from nemotron_gguf.ui.terminal.markdown import markdown_rows
from nemotron_gguf.ui.terminal.prompt import is_open, joined
from nemotron_gguf.ui.terminal.region import Region
from nemotron_gguf.ui.terminal.wrap import wrap

MIXED = """# Title

Words *with* **styles** and `code`
in two lines, <b>no html</b> &amp; \\[x\\].

1. one
2. two
   - nested

   a second paragraph
3) other list
---
> quoted
> - list
still quoted

```c
int main(void) {

    return 0;
}
```
| a | b |
|---|---|
| 1 | 2 |

    indented code
[1]: http://example.org
text
===
***
last
"""
SAMPLES = [MIXED, *(text for text in ANSWERS.values() if len(text) < 5000), MIXED.replace("\n", "\n\n")]


def plain(rows: list[Text]) -> list[str]:
    return [row.plain.rstrip() for row in rows]


@given(st.sampled_from(SAMPLES), st.integers(12, 100), st.integers(3, 30), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.generate))
def test_any_split_gives_the_same_rows(source: str, width: int, height: int, chance: random.Random) -> None:
    growing, rows, at = Growing(), [], 0
    while at < len(source):
        size = chance.choice([1, 3, 7, 20, 100])
        growing.feed(source[at : at + size])
        at += size
        rows += growing.settle(width, height)
        before = plain(growing.pending(width))
        assert all(cell_len(row) <= width for row in before)
    rows += growing.finish(width)
    assert plain(rows) == plain(markdown_rows(source, width))
    assert all(cell_len(row) <= width for row in plain(rows))


@pytest.mark.parametrize("source", SAMPLES)
def test_no_word_is_lost(source: str) -> None:
    from nemotron_gguf.ui.terminal.safe import safe

    shown = "".join("".join(plain(markdown_rows(safe(source), 400))).split())
    for word in "".join(letter if letter.isalnum() else " " for letter in safe(source)).split():
        assert word in shown or word in ("amp", "1", "2", "3"), word


def test_the_pending_part_does_not_grow_with_the_answer() -> None:
    growing = Growing()
    longest = 0
    for letter in ESSAY * 3:
        growing.feed(letter)
        growing.settle(80, 24)
        longest = max(longest, len(growing.source))
    assert longest < 300


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("one  two", 4, ["one", "two"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("你好世界", 5, ["你好", "世界"]),
        ("你好，世界。", 4, ["你", "好，", "世", "界。"]),
        ("类型Q4_K_M很好", 8, ["类型", "Q4_K_M很", "好"]),
        ("a\n\nb", 5, ["a", "", "b"]),
        ("", 5, [""]),
        ("say “你好” now", 6, ["say", "“你好”", "now"]),
    ],
)
def test_lines_are_broken_where_people_would(text: str, width: int, rows: list[str]) -> None:
    assert plain(wrap(Text(text), width)) == rows


@given(st.text(alphabet="ab 中，（）\n-", max_size=80), st.integers(2, 20))
@settings(max_examples=200, deadline=None)
def test_wrapping_keeps_every_letter(text: str, width: int) -> None:
    rows = plain(wrap(Text(text), width))
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(cell_len(row) <= width for row in rows)


def test_a_table_fits_or_becomes_a_list() -> None:
    source = "| name | 中文 |\n|:--|--:|\n| a long name of it | 很长的中文说明文字 |\n| b | `c` |\n"
    wide = plain(markdown_rows(source, 60))
    assert wide[0].startswith("name              │ ")
    assert wide[2] == "a long name of it │ 很长的中文说明文字"
    assert wide[3] == "b                 │                  c"
    narrow = plain(markdown_rows(source, 24))
    assert all(cell_len(row) <= 24 for row in narrow)
    assert "".join(narrow).count("很") == 1
    assert plain(markdown_rows(source, 12))[:2] == ["name: a long", "name of it"]


@given(
    st.lists(
        st.tuples(
            st.lists(st.text(alphabet="xy中", max_size=12), max_size=3),
            st.lists(st.text(alphabet="ab文", max_size=12), max_size=9),
        ),
        max_size=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_region_leaves_nothing_behind(steps: list[tuple[list[str], list[str]]]) -> None:
    screen = pyte.HistoryScreen(30, 6, history=1000)
    stream = pyte.Stream(screen)

    class Terminal:
        def write(self, text: str) -> None:
            stream.feed(text.replace("\n", "\r\n"))

        def flush(self) -> None:
            pass

    region = Region(Console(file=Terminal(), force_terminal=True, width=30, height=6))  # type: ignore[arg-type]
    expected: list[str] = []
    for above, rows in steps:
        region.show([Text(row) for row in rows], [Text(row) for row in above])
        expected += above
        gone = ["".join(row[x].data for x in range(30)) for row in screen.history.top]
        seen = [line.rstrip() for line in [*gone, *screen.display]]
        wanted = [*expected, *rows[-5:]]
        assert seen[: len(wanted)] == wanted
        assert not any(seen[len(wanted) :])


@pytest.mark.parametrize(
    ("typed", "more", "meant"),
    [
        ("hello", False, "hello"),
        ("hello\\", True, ""),
        ("a\\\nb", False, "a\nb"),
        ("ends in \\\\", False, "ends in \\\\"),
        ('"""a', True, ""),
        ('"""a\nb"""', False, "a\nb"),
        ('"""', True, ""),
        ('say """ twice', False, 'say """ twice'),
    ],
)
def test_when_a_message_goes_on(typed: str, more: bool, meant: str) -> None:
    assert is_open(typed) is more
    if not more:
        assert joined(typed) == meant
