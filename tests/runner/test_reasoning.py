"""Taking an answer apart gives the same parts however the stream is cut."""

from __future__ import annotations

import random

import pytest

from nemotron_gguf.runner import Answer, Reasoning, ToolCall
from nemotron_gguf.runner.reasoning import Splitter, parse_tool_calls

CALL = "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"

CASES = {
    "thinking is open": ("…<think>\n", "I see.\n</think>\n\nYes <b>.", "I see.", "Yes <b>."),
    "thinking is closed": ("…<think></think>", "  Yes </think> no\n", "", "Yes </think> no"),
    "the model begins to think": ("…assistant\n", "\n<think>\nHm <\n\n</thin</think>Yes", "Hm <\n\n</thin", "Yes"),
    "the model does not think": ("…assistant\n", "<thinker> yes", "", "<thinker> yes"),
    "it thinks to the end": ("<think>\n", "on and on </thin", "on and on </thin", ""),
    "only white space": ("<think></think>", " \n ", "", ""),
    "nothing": ("<think>\n", "", "", ""),
    "a marker later is text": ("x", "a <think>b</think>", "", "a <think>b</think>"),
    "inner space stays": ("<think>", "a\n\n b</think>c \n d", "a\n\n b", "c \n d"),
    "a tool is called": ("<think></think>", f"Let me look.\n{CALL}", "", f"Let me look.\n{CALL}"),
    "Chinese": ("<think>\n", "用户问候。</think>你好！", "用户问候。", "你好！"),
}


def split(prompt: str, pieces: list[str]) -> tuple[str, str]:
    splitter = Splitter(prompt)
    parts = [part for piece in pieces for part in splitter.feed(piece)] + list(splitter.finish())
    assert all(part.text for part in parts)
    thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
    return thought, "".join(part.text for part in parts if isinstance(part, Answer))


@pytest.mark.parametrize("case", CASES)
def test_any_cut_gives_the_same_parts(case: str) -> None:
    prompt, text, thought, answer = CASES[case]
    assert split(prompt, [text]) == (thought, answer)
    assert split(prompt, list(text)) == (thought, answer)
    rng = random.Random(case)
    for _ in range(50):
        cuts = sorted(rng.sample(range(len(text) + 1), min(4, len(text) + 1)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert split(prompt, pieces) == (thought, answer)


def test_text_is_given_out_as_soon_as_it_is_sure() -> None:
    splitter = Splitter("<think>\n")
    assert list(splitter.feed("abc <")) == [Reasoning("abc")]
    assert list(splitter.feed("d")) == [Reasoning(" <d")]
    assert list(splitter.feed("</think>e")) == [Answer("e")]
    assert list(splitter.feed("f")) == [Answer("f")]


def test_tool_calls_are_read_with_their_types() -> None:
    tools = [
        {
            "type": "function",
            "function": {
                "name": "plan",
                "parameters": {
                    "properties": {
                        "days": {"type": "integer"},
                        "stops": {"type": "array"},
                        "note": {"type": "string"},
                        "flag": {"type": "boolean"},
                    }
                },
            },
        }
    ]
    body = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n"
        for key, value in {
            "days": "3",
            "stops": '["a", "b"]',
            "note": "12\nlines",
            "flag": "maybe",
            "other": "7",
        }.items()
    )
    text = f"On it.\n<tool_call>\n<function=plan>\n{body}</function>\n</tool_call>\n{CALL}"
    answer, calls = parse_tool_calls(text, tools)
    assert answer == "On it."
    values = {"days": 3, "stops": ["a", "b"], "note": "12\nlines", "flag": "maybe", "other": "7"}
    assert calls == (ToolCall("plan", values), ToolCall("weather", {"city": "Paris"}))


@pytest.mark.parametrize("text", ["<tool_call>", CALL[:-5], "<tool_call>{}</tool_call>", "no call"])
def test_what_is_no_whole_call_stays_text(text: str) -> None:
    assert parse_tool_calls(text) == (text, ())
