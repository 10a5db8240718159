"""GBNF as llama.cpp reads it; what is no grammar is refused with its line."""

from __future__ import annotations

import random
import re

import pytest

from nemotron_gguf.runner import GrammarError
from nemotron_gguf.runner.grammar.graph import Grammar
from nemotron_gguf.runner.grammar.ranges import ANY, Ranges, both, has, ranges_of, utf8, without
from nemotron_gguf.runner.grammar.regex import matches
from nemotron_gguf.runner.grammar.stacks import reads
from nemotron_gguf.runner.grammar.wish import grammar_of

CASES = [
    ('root ::= "a" [b-d]+', ["ab", "abcd"], ["a", "abe", ""]),
    ("root ::= [^a-y]", ["z", "é", "你", "\U0001f600", "\n"], ["a", "zz"]),
    ('root ::= "\\x41\\u4f60\\U0001F600\\n\\"\\\\"', ['A你\U0001f600\n"\\'], ["A"]),
    ('root ::= [\\]\\-\\\\x-] "-"?', ["]", "-", "\\", "x-"], ["y"]),
    ('root ::= ("a" | b\n  | "c" "d")* # words\nb ::= "b"{2}\n', ["", "abbcd", "bb"], ["b", "ac"]),
    ('# first\n\nroot ::= x{1,2} y{2,} z{0} .\nx ::= "x"\ny ::= "y"\nz ::= "z"', ["xyyé", "xxyyyyz"], ["xyy", "xyyzz"]),
    ('root ::= "a" root "b" | ""', ["", "ab", "aaabbb"], ["aab", "ba"]),
    ('root ::= "a"\n  | "b"', ["a", "b"], ["c"]),
    ('root ::= item ("," item)*\nitem ::= [0-9]+ | "(" root ")"', ["1,(2,3),45"], ["1,", "()"]),
    ('root ::= ("a"?)* "b"', ["b", "aab"], ["a"]),
    ('root ::= under_score\nunder_score ::= "x"', ["x"], ["y"]),
]


def compiled(text: str) -> Grammar:
    grammar = grammar_of(text, None)
    assert grammar
    return grammar


@pytest.mark.parametrize(("text", "right", "wrong"), CASES)
def test_a_grammar_reads_what_it_says(text: str, right: list[str], wrong: list[str]) -> None:
    grammar = compiled(text)
    for one in right:
        assert reads(grammar.nodes, grammar.root, one.encode()), one
    for one in wrong:
        assert not reads(grammar.nodes, grammar.root, one.encode()), one


WRONG = [
    ("", "no rule `root`"),
    ('x ::= "a"', "no rule `root`"),
    ("root ::= x", "line 1 of the grammar: there is no rule 'x'"),
    ('root ::= "a"\n\nroot ::= "b"', "line 3 of the grammar: the rule 'root' is there twice"),
    ('root := "a"', "expected ::="),
    ('root ::= "a', "a text is not closed"),
    ("root ::= [a", "a set is not closed"),
    ('root ::= ("a"', "a group is not closed"),
    ('root ::= "a")', "expected the name of a rule"),
    ("root ::= *", "nothing stands before *"),
    ('root ::= "a"{', "expected {n}"),
    ('root ::= "a"{3,1}', "expected rising numbers"),
    ('root ::= "a"{1,99999999}', "expected rising numbers"),
    ('root ::= "a"{9999999999}', "expected {n}"),
    ('root ::= "\\q"', "stands for nothing"),
    ('root ::= "\\uD800"', "no character of Unicode"),
    ("root ::= [z-a]", "ends before it begins"),
    ("root ::= <think>", "tokens of a vocabulary"),
    ('root ::= root "a" | "b"', "left recursion"),
    ('root ::= a\na ::= "x"? b\nb ::= a "y" | "z"', "left recursion"),
    ('root ::= (root | "a")* "b"', "left recursion"),
    ("root ::= root", "no text can satisfy it"),
    ('root ::= "a" root', "no text can satisfy it"),
    ('root ::= [] "a"', "no text can satisfy it"),
    ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "groups stand in groups"),
    ('root ::= "a"' + ' "b"' * 200_000, "at most 262144 are read"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_no_grammar_is_refused(text: str, words: str) -> None:
    with pytest.raises(GrammarError) as caught:
        compiled(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_alternatives_that_never_end_are_left_out() -> None:
    grammar = compiled('root ::= "a" endless | "b" endless? "c"\nendless ::= "x" endless')
    assert reads(grammar.nodes, grammar.root, b"bc")
    assert not reads(grammar.nodes, grammar.root, b"bxc")
    ways = [node for node in grammar.nodes if "97" in str(node)]
    assert not ways, "no beginning leads to where there is no end"


PATTERNS = [
    "^a(b|c)+$", "a.c", "^[^a-c]{2,}", "(ab|a)(bc|c)?$", r"^\d{3}-\w+\s?$", "x*?y+", "^$", "a|^b|c$", r"[\d\-x]+$",
    "^(?:a{2}){1,2}b?$", "(a+)+$", r"^[\w.]+$", "(?P<n>a)b", r"\.", "a{0}b", "",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_mean_what_they_mean_in_python(pattern: str) -> None:
    draw = random.Random(pattern)
    for _ in range(200):
        text = "".join(draw.choice("abcxy1-. ]") for _ in range(draw.randrange(8)))
        assert matches(pattern, text) == bool(re.search(pattern, text)), (pattern, text)


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", r"\bword", "(?i)a", "a**", "a{2,1}", "(a", "a)", "[a", "[b-a]", "^^a",
                "$a", "*a", r"\p{L}", "a$b", "(^a)", "a\\", "[]a]", "[^]a]"]
)  # fmt: skip
def test_patterns_beyond_that_are_refused(pattern: str) -> None:
    with pytest.raises(GrammarError):
        matches(pattern, "a")


def test_characters_become_bytes() -> None:
    draw = random.Random(5)
    borders = [1, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    for _ in range(200):
        ends = sorted(draw.choice([draw.choice(borders), draw.randrange(1, 0x110000)]) for _ in range(4))
        wanted: Ranges = ranges_of([(ends[0], ends[1]), (ends[2], ends[3])])
        sequences = list(utf8(wanted))
        for code in (*borders, *(draw.randrange(1, 0x110000) for _ in range(20)), *ends, ends[1] + 1):
            if not has(ANY, code):
                continue
            raw = chr(code).encode()
            found = [
                one
                for one in sequences
                if len(one) == len(raw) and all(a <= b <= c for (a, c), b in zip(one, raw, strict=True))
            ]
            assert len(found) == has(wanted, code)


def test_sets_of_characters() -> None:
    draw = random.Random(6)
    for _ in range(100):
        sets = [{draw.randrange(1, 40) for _ in range(draw.randrange(20))} for _ in range(2)]
        one, other = (ranges_of((value, value) for value in values) for values in sets)

        def members(ranges: Ranges) -> set[int]:
            return {value for low, high in ranges for value in range(low, high + 1)}

        assert members(both(one, other)) == sets[0] & sets[1]
        assert members(without(one, other)) == sets[0] - sets[1]
