"""Taking an answer apart gives the same events however the stream is cut, and loses nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_gguf.runner.chat.format import ChatFormat
from nemotron_gguf.runner.chat.stream import Part, StreamParser
from nemotron_gguf.runner.events import Answer, Reasoning, ToolCall

PARIS = "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}},
    {"name": "save", "parameters": {"properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}},
]
OPEN, CLOSED, FREE = ChatFormat(thinking=True), ChatFormat(may_open=False), ChatFormat()
JSON = ChatFormat(thinking=True, tools="json", call_begin="<TOOLCALL>", call_end="</TOOLCALL>")
CALL = ToolCall("weather", {"city": "Paris"})


def xml(name: str, **values: str) -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


def joined(events: Sequence[Part]) -> list[Part]:
    """Neighbours of one kind made one."""
    found: list[Part] = []
    for event in events:
        if isinstance(event, ToolCall):
            found.append(event)
            continue
        assert event.text
        last = found[-1] if found else None
        if isinstance(last, Reasoning | Answer) and type(last) is type(event):
            found[-1] = type(event)(last.text + event.text)
        else:
            found.append(event)
    return found


def parse(form: ChatFormat, pieces: Sequence[str], tools: Sequence[Any] = TOOLS) -> list[Part]:
    parser = StreamParser(form, tools)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return joined(events + parser.finish())


CASES: dict[str, tuple[ChatFormat, str, list[Part]]] = {
    "thinking is open": (OPEN, "I see.\n</think>\n\nYes <b>.", [Reasoning("I see."), Answer("Yes <b>.")]),
    "thinking is closed": (CLOSED, "  Yes </think> no\n", [Answer("Yes </think> no")]),
    "closed, and opened again": (CLOSED, "<think>a</think>b", [Answer("<think>a</think>b")]),
    "the model begins to think": (
        FREE,
        "\n<think>\nHm <\n\n</thin</think>Yes",
        [Reasoning("Hm <\n\n</thin"), Answer("Yes")],
    ),
    "the model does not think": (FREE, "<thinker> yes", [Answer("<thinker> yes")]),
    "it only begins to begin": (FREE, " <thi", [Answer("<thi")]),
    "it thinks to the end": (OPEN, "on and on </thin", [Reasoning("on and on </thin")]),
    "the end is repeated": (OPEN, "a</think>b</think>c", [Reasoning("a"), Answer("b</think>c")]),
    "only white space": (CLOSED, " \n ", []),
    "nothing": (OPEN, "", []),
    "a marker later is text": (FREE, "a <think>b</think>", [Answer("a <think>b</think>")]),
    "inner space stays": (OPEN, "a\n\n b</think>c \n d", [Reasoning("a\n\n b"), Answer("c \n d")]),
    "Chinese": (OPEN, "用户问候。</think>你好！", [Reasoning("用户问候。"), Answer("你好！")]),
    "a tool is called": (CLOSED, f"Let me look.\n{PARIS}\n", [Answer("Let me look."), CALL]),
    "text around a call": (CLOSED, f"One.\n{PARIS}\nTwo.", [Answer("One."), CALL, Answer("\n\nTwo.")]),
    "two calls": (CLOSED, f"{PARIS}\n{PARIS}", [CALL, CALL]),
    "a call without parameters": (CLOSED, xml("now"), [ToolCall("now", {})]),
    "a tool that was not offered": (CLOSED, xml("launch", at="dawn"), [ToolCall("launch", {"at": "dawn"})]),
    "a call ends the reasoning": (OPEN, f"I look.\n{PARIS}\nDone.", [Reasoning("I look."), CALL, Answer("Done.")]),
    "a call of no tool in a reasoning": (OPEN, f"a {xml('x')} b", [Reasoning(f"a {xml('x')} b")]),
    "half a call in a reasoning": (OPEN, f"a {PARIS[:60]}</think>b", [Reasoning(f"a {PARIS[:60]}"), Answer("b")]),
    "JSON in a reasoning": (
        JSON,
        '<TOOLCALL>[{"name": "weather"}]</TOOLCALL>',
        [Reasoning('<TOOLCALL>[{"name": "weather"}]</TOOLCALL>')],
    ),
    "a value like an end": (
        CLOSED,
        xml("save", text="a </parameter> b\n</function>\n</parameter>\n</function> c", n="3"),
        [ToolCall("save", {"text": "a </parameter> b\n</function>\n</parameter>\n</function> c", "n": 3})],
    ),
    "a value of code": (
        CLOSED,
        xml("save", text="\n  if a < b && c > d:\n    print('<tool_call>')\n"),
        [ToolCall("save", {"text": "\n  if a < b && c > d:\n    print('<tool_call>')\n"})],
    ),
    "a value of XML": (
        CLOSED,
        xml("save", text='<a b="c"><d/></a></tool_call>'),
        [ToolCall("save", {"text": '<a b="c"><d/></a></tool_call>'})],
    ),
    "a text that looks like JSON": (CLOSED, xml("save", text='{"a": 1}'), [ToolCall("save", {"text": '{"a": 1}'})]),
    "a parameter twice": (
        CLOSED,
        "<tool_call><function=save><parameter=text>a</parameter><parameter=text>b</parameter></function></tool_call>",
        [ToolCall("save", {"text": "a</parameter><parameter=text>b"})],
    ),
    "JSON in a list": (
        JSON,
        'So.\n</think>\n\n<TOOLCALL>[{"name": "a", "arguments": {"x": [1, "]"]}}, {"name": "b"}]</TOOLCALL>\n',
        [Reasoning("So."), ToolCall("a", {"x": [1, "]"]}), ToolCall("b", {})],
    ),
    "Hermes": (
        ChatFormat(tools="json", may_open=False),
        '<tool_call>\n{"name": "a", "arguments": {"x": "</tool_call> \\" }"}}\n</tool_call> ok',
        [ToolCall("a", {"x": '</tool_call> " }'}), Answer("ok")],
    ),
    "JSON in JSON": (
        JSON,
        '</think><TOOLCALL>[{"name": "a", "arguments": "{\\"x\\": 1}"}]</TOOLCALL>',
        [ToolCall("a", {"x": 1})],
    ),
    "JSON as Llama has it": (
        JSON,
        '</think><TOOLCALL>[{"name": "a", "parameters": {"x": 1}}]</TOOLCALL>',
        [ToolCall("a", {"x": 1})],
    ),
    "a broken call before a whole one": (CLOSED, f"<tool_call>no{PARIS}", [Answer("<tool_call>no"), CALL]),
    "a call that never ends before a whole one": (
        ChatFormat(tools="json", may_open=False),
        '<tool_call>{"a" <tool_call>{"name": "b"}</tool_call>',
        [Answer('<tool_call>{"a"'), ToolCall("b", {})],
    ),
    "a text in JSON that never ends, and a whole call": (
        CLOSED,
        f'a <tool_call>["{PARIS}',
        [Answer('a <tool_call>["'), CALL],
    ),
    "marks of another maker": (
        ChatFormat(thinking=True, begin="[THINK]", end="[/THINK]", tools="none", call_begin="", call_end=""),
        f"[a[/THINK]{PARIS}",
        [Reasoning("[a"), Answer(PARIS)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_events(case: str) -> None:
    form, text, expected = CASES[case]
    assert parse(form, [text]) == expected
    assert parse(form, list(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        PARIS[:-5],
        PARIS[:40],
        "<tool_call>",
        "<tool_call>{}</tool_call>",
        '<tool_call>{"name": 3}</tool_call>',
        '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "a"}',
        '<tool_call>{"name": "a"',
        '<tool_call>{"name": "a"}}</tool_call>',
        "<tool_call>[]</tool_call>",
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=a>\nParis\n</function>\n</tool_call>",
        "<tool_call>\n<function=a>\n<parameter=>\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n" + "x" * 300 + "</tool_call>",
        "<tool_call>" * 40,
        "<tool_call>" + "[" * 3000 + "]" * 3000 + "</tool_call>",
        "no call",
    ],
)
def test_what_is_no_whole_call_is_text_byte_for_byte(text: str) -> None:
    text = f"Before. {text} After."
    assert parse(CLOSED, [text]) == [Answer(text)]
    assert parse(CLOSED, list(text)) == [Answer(text)]


PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "</thi", "<tool_call>", "</tool_call>", "<tool", "<function=save>", "</function>"),
        *(
            "<parameter=text>",
            "<parameter=n>",
            "</parameter>",
            "<TOOLCALL>",
            "</TOOLCALL>",
            '[{"name": "a"}]',
            "{",
            "}",
        ),
        *('"', "\\", "<", ">", "\n", " ", "a", "3", "é", PARIS, '{"name": "weather", "arguments": {"city": "x"}}'),
    ]
)
FORMS = [OPEN, CLOSED, FREE, JSON, ChatFormat(tools="json"), ChatFormat(tools="none", thinking=True)]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(FORMS), st.lists(PIECES, max_size=25), st.data())
def test_any_cut_gives_the_same_events(form: ChatFormat, parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = parse(form, [text])
    assert parse(form, pieces) == whole
    assert parse(form, list(text)) == whole


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS), st.lists(PIECES, max_size=25))
def test_nothing_is_lost(form: ChatFormat, parts: list[str]) -> None:
    """Where no call was found, the text is all there, but for the marks of the reasoning and white space."""
    text = "".join(parts)
    events = parse(form, [text])
    if any(isinstance(event, ToolCall) for event in events):
        return
    shown = "".join(event.text for event in events if not isinstance(event, ToolCall))
    if form.thinking or (form.may_open and text.lstrip().startswith(form.begin)):
        text = text.replace(form.end, "", 1)
        if not form.thinking:
            text = text.replace(form.begin, "", 1)
    assert "".join(shown.split()) == "".join(text.split())


VALUES = st.one_of(
    st.text(st.sampled_from('<>/ab\n "{}[]=\\é'), max_size=30),
    st.sampled_from(["</parameter>", "<parameter=text>", "</function>", "x</tool_call>\ny", "<tool_call>"]),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=3))
def test_a_value_comes_back_as_it_was_written(values: dict[str, str]) -> None:
    assert parse(CLOSED, [xml("f", **values)]) == [ToolCall("f", values)]
    call = json.dumps([{"name": "f", "arguments": values}], ensure_ascii=False)
    assert parse(JSON, [f"</think><TOOLCALL>{call}</TOOLCALL>"]) == [ToolCall("f", values)]


def test_text_is_given_out_as_soon_as_it_is_sure() -> None:
    parser = StreamParser(OPEN)
    assert parser.thinking
    assert parser.feed("abc <") == [Reasoning("abc")]
    assert parser.feed("d") == [Reasoning(" <d")]
    assert parser.feed("</think>e") == [Answer("e")]
    assert not parser.thinking
    assert parser.feed("f") == [Answer("f")]
    assert parser.feed(PARIS[:-1]) == []
    assert parser.feed(">") == [CALL]
    assert set(parser.markers) == {"<think>", "</think>", "<tool_call>", "</tool_call>"}


def test_the_engine_ends_the_reasoning() -> None:
    form = ChatFormat(thinking=True, close=".\n</think>\n\n")
    parser = StreamParser(form, TOOLS)
    assert parser.feed("That is a basi </th") == [Reasoning("That is a basi")]
    assert joined(parser.end_thinking()) == [Reasoning(" </th.")]
    assert not parser.thinking
    assert parser.end_thinking() == []
    assert parser.feed("\n2 </think>") == [Answer("2 </think>")]
    held = StreamParser(form, TOOLS)
    assert held.feed("So: " + PARIS[:50]) == [Reasoning("So:")]
    assert joined(held.end_thinking()) == [Reasoning(f" {PARIS[:50]}.")]
    assert StreamParser(form).end_thinking() == [], "where nothing was thought, nothing is bridged"
    assert StreamParser(CLOSED).end_thinking() == []


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=8))
def test_ending_a_reasoning_is_what_the_model_would_have_written(parts: list[str]) -> None:
    form = ChatFormat(thinking=True, close=" …\n\nNow I answer.\n</think>\n\n")
    text = "".join(parts)
    if form.end in text or not text.strip():
        return
    parser = StreamParser(form)  # without tools: a call would end the reasoning by itself
    events = parser.feed(text) + parser.end_thinking() + parser.feed("x")
    assert joined(events) == parse(form, [text, form.close, "x"], ())


HELD = {
    "plain": "hello wor " * 10_000,
    "begun marks": "<" * 100_000,
    "white space": "\n" * 100_000,
    "calls that are none": "<tool_call>" * 9_000,
    "a long value": "<tool_call>\n<function=a>\n<parameter=b>\n" + "x<" * 50_000,
    "long JSON": '<tool_call>{"name": "a", "arguments": {"x": "' + 'a\\"' * 30_000,
    "calls in calls": "<tool_call>\n<function=a>\n<parameter=b>" * 5_000,
    "calls in calls that end": "<tool_call>\n<function=a>\n<parameter=b>" * 5_000 + "</parameter><parameter=b>" * 99,
    "brackets": "<tool_call>[" * 8_000,
}


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("form", [OPEN, CLOSED], ids=["thinking", "answer"])
def test_a_long_text_costs_no_more_a_piece(name: str, form: ChatFormat) -> None:
    """Four times the text takes about four times as long, in small pieces and in one: sixteen would be the square."""

    def seconds(text: str, step: int) -> float:
        parser = StreamParser(form, TOOLS)
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        start = time.process_time()
        for piece in pieces:
            parser.feed(piece)
        parser.finish()
        return time.process_time() - start

    text = HELD[name]
    for step in (4, len(text)):
        short = min(seconds(text[: len(text) // 4], step) for _ in range(3))
        assert seconds(text, step) < 9 * short + 0.05
    assert seconds(text, 4) / (len(text) / 4) < 40e-6
